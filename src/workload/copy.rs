//! Copies over PCIe between pinned host memory and the device.

use super::params::{Site, count, size};
use super::{Buffer, Enqueue, Op, Role, Workload};
use crate::channel::Channel;
use crate::field::Field;
use crate::units::Bytes;

const COPY_PARAMS: &[Field] = &[
    size(
        "bytes",
        Bytes::kib(4),
        Some("1MiB"),
        "Bytes of one copy. As noise, 8MiB or more keeps the link full; 1MiB leaves gaps.",
    ),
    count("copies", (1, 64), "1", "Copies in one request, back to back."),
];

/// `h2d`.
pub(super) static H2D: Workload = Workload {
    id: "h2d",
    role: Role::Both,
    channels: &[Channel::Pcie, Channel::CopyEngine],
    params: COPY_PARAMS,
    marks: &[],
    doc: "Copies from pinned host memory to the device.",
    program: |params, view| {
        let at = Site::new("h2d", params, view)?;
        let (bytes, copies) = (at.size("bytes", None)?, at.count("copies")?);
        at.program(
            vec![Buffer::zero(bytes)],
            vec![Op::Enqueue(Enqueue::ToDevice { buffer: 0, bytes, stream: 0 }, copies)],
        )
    },
};

/// `d2h`.
pub(super) static D2H: Workload = Workload {
    id: "d2h",
    role: Role::Both,
    channels: &[Channel::Pcie, Channel::CopyEngine],
    params: COPY_PARAMS,
    marks: &[],
    doc: "Copies from the device to pinned host memory.",
    program: |params, view| {
        let at = Site::new("d2h", params, view)?;
        let (bytes, copies) = (at.size("bytes", None)?, at.count("copies")?);
        at.program(
            vec![Buffer::zero(bytes)],
            vec![Op::Enqueue(Enqueue::ToHost { buffer: 0, bytes, stream: 0 }, copies)],
        )
    },
};

/// `bidirectional`.
pub(super) static BIDIRECTIONAL: Workload = Workload {
    id: "bidirectional",
    role: Role::Noise,
    channels: &[Channel::Pcie, Channel::CopyEngine],
    params: &[size("bytes", Bytes::kib(4), Some("8MiB"), "Bytes of one copy in either direction.")],
    marks: &[],
    doc: "Copies in both directions at once, each on a stream of its own.",
    program: |params, view| {
        let at = Site::new("bidirectional", params, view)?;
        let bytes = at.size("bytes", None)?;
        let request = vec![
            Op::Enqueue(Enqueue::ToDevice { buffer: 0, bytes, stream: 0 }, 1),
            Op::Enqueue(Enqueue::ToHost { buffer: 1, bytes, stream: 1 }, 1),
        ];
        at.program(vec![Buffer::zero(bytes), Buffer::zero(bytes)], request)
    },
};

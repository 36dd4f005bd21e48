//! Copies over PCIe between pinned host memory and the device.

use super::params::{Site, count, size};
use super::{Enqueue, Op, Role, Workload};
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
        at.program(vec![Bytes(bytes)], vec![Op::Enqueue(Enqueue::ToDevice { buffer: 0, bytes, stream: 0 }, copies)])
    },
};

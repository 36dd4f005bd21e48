//! From programs to driver calls: which launches stamp, what is expected of each, and how arguments lie.

use super::super::compile::{STREAMS, Site, compile};
use super::super::request::Request;
use super::fake;
use crate::cuda::{CudaError, Device, Driver, Stream};
use crate::units::Bytes;
use crate::workload::{Arg, Enqueue, Kernel, Op, Program, SETUP};

/// `fill_vectors`, whose checksum follows from its second argument: −2 for each 16 bytes.
fn vectors(bytes: u64, times: u32) -> Op {
    let kernel: &'static Kernel = SETUP.iter().copied().find(|k| k.symbol == "fill_vectors").unwrap();
    let args = vec![Arg::Buffer(1), Arg::U64(bytes), Arg::U32(0xabcd)];
    Op::Enqueue(Enqueue::Launch { kernel, grid: 3, block: 64, args }, times)
}

fn copy(stream: u8) -> Op {
    Op::Enqueue(Enqueue::ToHost { buffer: 0, bytes: 4_096, stream }, 2)
}

fn compiled(request: Vec<Op>, noise: bool) -> Result<Request, CudaError> {
    let driver: &'static Driver = fake::driver()?;
    Device::get(driver, 0)?;
    let streams: [Stream; STREAMS] = [Stream::new(driver)?, Stream::new(driver)?];
    let function = &mut |kernel: &Kernel| fake::function(kernel.symbol);
    let program = Program { buffers: Vec::new(), request, footprint: Bytes(0) };
    let buffers = [1 << 41, 3 << 41];
    let site =
        Site { driver, function, streams: &streams, buffers: &buffers, states: [1 << 42, 1 << 43], slots: 2, noise };
    compile(&program, site)
}

/// Of each stamp: the expected checksum in vectors, whether it starts the request, is a launch's own, and its marks.
fn points(request: Vec<Op>, noise: bool) -> Vec<(u32, bool, bool, std::ops::Range<u16>)> {
    let request = compiled(request, noise).unwrap();
    let of = |p: &super::super::request::Point| (p.expected.wrapping_neg() / 2, p.starts, p.own, p.marks.clone());
    request.points.iter().map(of).collect()
}

#[test]
fn the_first_and_the_last_launch_stamp_and_each_expects_what_was_added_since() {
    let _fake = fake::take();
    assert_eq!(points(vec![vectors(160, 1)], false), [(10, true, true, 0..0)]);
    assert_eq!(points(vec![vectors(160, 5)], false), [(10, true, true, 0..0), (40, false, true, 0..0)]);
    let chain = vec![vectors(16, 1), vectors(32, 2), vectors(64, 3)];
    assert_eq!(points(chain, false), [(1, true, true, 0..0), (4 + 12, false, true, 0..0)]);
}

#[test]
fn a_mark_stamps_the_launch_before_it() {
    let _fake = fake::take();
    let round = || [vectors(16, 3), Op::Mark("round")];
    let request: Vec<Op> = round().into_iter().chain(round()).collect();
    let expected = [(1, true, true, 0..0), (2, false, true, 0..1), (3, false, true, 1..2)];
    assert_eq!(points(request.clone(), false), expected);
    assert_eq!(compiled(request.clone(), false).unwrap().rows(), 3);
    // As noise: one graph, and a stamp behind it.
    assert_eq!(points(request.clone(), true), [(6, false, false, 0..0)]);
    assert_eq!(compiled(request, true).unwrap().rows(), 1);
}

#[test]
fn copies_end_in_a_stamp_of_their_own_on_each_stream() {
    let _fake = fake::take();
    assert_eq!(points(vec![copy(0), vectors(16, 1), copy(0)], false), [(1, false, false, 0..0)]);
    assert_eq!(points(vec![copy(0), copy(1)], true), [(0, false, false, 0..0), (0, false, false, 0..0)]);
}

#[test]
fn arguments_are_those_of_the_program_whatever_their_width() {
    let _fake = fake::take();
    let request = compiled(vec![vectors(1 << 33, 1)], false).unwrap();
    assert_eq!(request.post(fake::driver().unwrap(), 6), 0);
    let launch = fake::state().last.clone().unwrap();
    assert_eq!(launch.shape, (3, 64));
    assert_eq!(launch.words, [3 << 41, 1 << 33, 0xabcd], "buffer 1, 64 bits, 32 bits");
    assert_eq!((launch.program, launch.sequence), (1 << 42, 7));
    assert!(request.read(6, 0).is_some() && request.read(7, 0).is_none());
}

#[test]
fn what_is_no_request_is_refused_in_words() {
    let _fake = fake::take();
    let refused = |request: Vec<Op>| compiled(request, false).err().map(|e| e.to_string()).unwrap();
    assert!(refused(vec![]).contains("without operations"));
    assert!(refused(vec![Op::Mark("lonely")]).contains("lonely"));
    let mut wrong = vectors(16, 1);
    if let Op::Enqueue(Enqueue::Launch { args, .. }, _) = &mut wrong {
        args[1] = Arg::U32(16);
    }
    assert!(refused(vec![wrong]).contains("fill_vectors takes U64 and is given U32(16)"));
}

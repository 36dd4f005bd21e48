//! Memory of other devices and of other processes.
//!
//! What is handed out to other processes is a file beside the state: who maps it sees what it held when it was handed out. As
//! on hardware it is mapped within one memory domain, and between GPUs that reach each other. Which code a driver gives between
//! GPU instances is assumed.

use std::io::Write as _;

use crate::entry::{Code, Out, entry_points};
use crate::process::{Context, Process, current, process};
use crate::results;

/// CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS.
const LAZY: u32 = 1;

/// CUipcMemHandle: the name of the file.
#[repr(C)]
#[derive(Clone, Copy)]
struct Handle([u8; 64]);

impl Process {
    /// Whether one GPU reaches the memory of another.
    fn reaches(&self, gpu: usize, other: usize) -> Result<bool, Code> {
        let says = |gpu| self.gpu(gpu).map(|device| device.part.config.peer_access);
        Ok(gpu != other && says(gpu)? && says(other)?)
    }

    /// The memory domain of a context.
    fn domain(&self, context: &Context) -> Result<usize, Code> {
        let part = &self.gpu(context.gpu)?.part;
        let compute = context.slot / part.share.max(1);
        part.topology.computes.get(compute).map(|c| c.domain).ok_or(results::INVALID_CONTEXT)
    }

    fn lend(&self, address: u64) -> Result<Handle, Code> {
        let mut tables = self.tables();
        current(&tables)?;
        let allocation = tables.heap.at(address).copied().filter(|a| a.id.is_some()).ok_or(results::INVALID_VALUE)?;
        let owner = tables.contexts.get(&allocation.context).cloned().ok_or(results::INVALID_CONTEXT)?;
        let kept = allocation.bytes.min(self.loaded.config.contents_kib << 10);
        let mut contents = vec![0; kept as usize];
        tables.heap.read(address, &mut contents);
        tables.lent += 1;
        let name = format!("ipc.{}.{}", std::process::id(), tables.lent);
        drop(tables);
        let head = format!("{} {} {}\n", owner.gpu, self.domain(&owner)?, allocation.bytes);
        let write = || {
            let mut file = std::fs::File::create(self.loaded.folder.join(&name))?;
            file.write_all(head.as_bytes())?;
            file.write_all(&contents)
        };
        write().map_err(|e| {
            eprintln!("crosstalk stand-in driver: {name}: {e}");
            results::UNKNOWN
        })?;
        let mut handle = Handle([0; 64]);
        handle.0[..name.len()].copy_from_slice(name.as_bytes());
        Ok(handle)
    }

    fn borrow(&self, handle: Handle) -> Result<u64, Code> {
        let mut tables = self.tables();
        let (here, context) = current(&tables)?;
        let name: String = handle.0.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
        let is_name = name.starts_with("ipc.") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        let bytes = std::fs::read(self.loaded.folder.join(&name)).ok().filter(|_| is_name);
        let bytes = bytes.ok_or(results::INVALID_VALUE)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(results::INVALID_VALUE)?;
        let head: Vec<u64> =
            String::from_utf8_lossy(&bytes[..end]).split(' ').filter_map(|number| number.parse().ok()).collect();
        let [gpu, domain, length] = head[..] else { return Err(results::INVALID_VALUE) };
        if gpu as usize != context.gpu {
            if !self.reaches(context.gpu, gpu as usize)? {
                return Err(results::PEER_ACCESS_UNSUPPORTED);
            }
        } else if domain as usize != self.domain(&context)? {
            return Err(results::NOT_SUPPORTED);
        }
        let address = tables.heap.insert(length, here, None);
        tables.heap.write(address, &bytes[end + 1..]);
        Ok(address)
    }
}

entry_points! {
    fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) {
        let process = process()?;
        let (device, peer) = (process.device(device)?, process.device(peer)?);
        can.put(i32::from(process.reaches(device.gpu, peer.gpu)?))
    }

    fn cuCtxEnablePeerAccess(peer: u64, flags: u32) {
        let process = process()?;
        let mut tables = process.tables();
        let (here, context) = current(&tables)?;
        let other = tables.contexts.get(&peer).ok_or(results::INVALID_CONTEXT)?.gpu;
        if flags != 0 {
            return Err(results::INVALID_VALUE);
        }
        if !process.reaches(context.gpu, other)? {
            return Err(results::PEER_ACCESS_UNSUPPORTED);
        }
        if tables.peers.contains(&(here, peer)) {
            return Err(results::PEER_ACCESS_ALREADY_ENABLED);
        }
        tables.peers.push((here, peer));
        Ok(())
    }

    fn cuMemcpyPeerAsync(to: u64, to_context: u64, from: u64, from_context: u64, bytes: usize, _stream: u64) {
        let process = process()?;
        let known = |context: u64| process.tables().contexts.contains_key(&context);
        if !known(to_context) || !known(from_context) {
            return Err(results::INVALID_CONTEXT);
        }
        process.device_to_device(to, from, bytes)
    }

    fn cuIpcGetMemHandle(handle: Out<Handle>, address: u64) {
        handle.put(process()?.lend(address)?)
    }

    fn cuIpcOpenMemHandle_v2(address: Out<u64>, handle: Handle, flags: u32) {
        if flags & LAZY == 0 {
            return Err(results::INVALID_VALUE);
        }
        address.put(process()?.borrow(handle)?)
    }

    fn cuIpcCloseMemHandle(address: u64) {
        let process = process()?;
        let mut tables = process.tables();
        tables.heap.at(address).filter(|a| a.id.is_none()).ok_or(results::INVALID_VALUE)?;
        tables.heap.remove(address).map(drop).ok_or(results::INVALID_VALUE)
    }
}

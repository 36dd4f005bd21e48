//! Graphs: what a stream captured, to be queued as a whole.

use crate::entry::{Out, entry_points};
use crate::process::process;
use crate::results;
use crate::streams::Step;

/// A graph, or one that is instantiated.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    steps: Vec<Step>,
    executable: bool,
}

entry_points! {
    fn cuStreamBeginCapture_v2(stream: u64, _mode: u32) {
        let process = process()?;
        let mut tables = process.tables();
        if stream <= 2 {
            // The legacy stream cannot be captured.
            return Err(results::STREAM_CAPTURE_UNSUPPORTED);
        }
        let stream = process.stream(&tables, stream)?;
        let found = tables.streams.get_mut(&stream).ok_or(results::INVALID_HANDLE)?;
        if found.capture.is_some() {
            return Err(results::ILLEGAL_STATE);
        }
        found.capture = Some(Vec::new());
        Ok(())
    }

    fn cuStreamEndCapture(stream: u64, graph: Out<u64>) {
        let process = process()?;
        let mut tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        let found = tables.streams.get_mut(&stream).ok_or(results::INVALID_HANDLE)?;
        let steps = found.capture.take().ok_or(results::ILLEGAL_STATE)?;
        let handle = tables.handle();
        tables.graphs.insert(handle, Graph { steps, executable: false });
        graph.put(handle)
    }

    fn cuGraphInstantiateWithFlags(executable: Out<u64>, graph: u64, _flags: u64) {
        let process = process()?;
        let mut tables = process.tables();
        let graph = tables.graphs.get(&graph).filter(|g| !g.executable).cloned().ok_or(results::INVALID_HANDLE)?;
        let handle = tables.handle();
        tables.graphs.insert(handle, Graph { executable: true, ..graph });
        executable.put(handle)
    }

    fn cuGraphLaunch(executable: u64, stream: u64) {
        let process = process()?;
        let mut tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        let steps = tables.graphs.get(&executable).filter(|g| g.executable).ok_or(results::INVALID_HANDLE)?.steps.clone();
        tables.launches += steps.len() as u64;
        process.push(&mut tables, stream, steps)
    }

    fn cuGraphExecDestroy(executable: u64) {
        process()?.tables().graphs.remove(&executable).map(drop).ok_or(results::INVALID_HANDLE)
    }

    fn cuGraphDestroy(graph: u64) {
        process()?.tables().graphs.remove(&graph).map(drop).ok_or(results::INVALID_HANDLE)
    }
}

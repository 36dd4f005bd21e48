//! Cost of recording one request: the row that its sender and its watcher write into the mapped region. Goal: 20 ns.

use std::sync::atomic::Ordering;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crosstalk::backend::Outcome;
use crosstalk::tenant::Region;

/// Rows of a long window: 16 MiB, beyond the caches of most cores.
const ROWS: usize = 1 << 18;

fn recording(criterion: &mut Criterion) {
    let file = tempfile::tempfile().unwrap_or_else(|why| panic!("no temporary file: {why}"));
    let region = Region::create(&file, ROWS).unwrap_or_else(|why| panic!("no region: {why}"));
    let mut group = criterion.benchmark_group("recording");
    group.throughput(Throughput::Elements(1));
    let mut index = 0;
    group.bench_function("row", |bencher| {
        bencher.iter(|| {
            if let Some(row) = region.row(index % ROWS) {
                let at = index as u64;
                row.sent.store(at, Ordering::Relaxed);
                row.busy_until.store(at + 1, Ordering::Relaxed);
                row.gpu_start.store(at + 2, Ordering::Relaxed);
                row.gpu_end.store(at + 3, Ordering::Relaxed);
                row.set_outcome(Outcome::Ok);
                row.completed.store(at + 4, Ordering::Release);
            }
            index += 1;
        });
    });
    group.finish();
}

criterion_group!(benches, recording);
criterion_main!(benches);

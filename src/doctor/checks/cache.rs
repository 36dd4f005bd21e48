//! Where compiled kernels are kept.

use super::{ok, warning};
use crate::doctor::{Facts, Finding};
use crate::host::compute_cache::ComputeCache;

pub(super) fn compiled(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "compute-cache";
    const WHY: &str =
        "without a place for compiled kernels every tenant compiles all of them at every start, for seconds";
    const CURE: &str = "export CUDA_CACHE_PATH with a folder that can be written, or mount one: volumes: [{ name: tmp, emptyDir: \
        {} }] and volumeMounts: [{ name: tmp, mountPath: /tmp }] in the pod's manifest";
    vec![match &facts.cache {
        ComputeCache::Users => ok(ID, "compiled kernels are kept where CUDA_CACHE_PATH says", WHY),
        ComputeCache::Home(folder) => ok(ID, format!("compiled kernels are kept in {}", folder.display()), WHY),
        ComputeCache::Ours(folder) => ok(
            ID,
            format!("the home folder cannot be written: tenants keep compiled kernels in {}", folder.display()),
            WHY,
        ),
        ComputeCache::Disabled => warning(
            ID,
            "CUDA_CACHE_DISABLE keeps the driver from keeping compiled kernels",
            WHY,
            "unset CUDA_CACHE_DISABLE",
        ),
        ComputeCache::Nowhere => {
            let what = "neither the home folder nor one for temporary files can be written";
            warning(ID, what, WHY, CURE)
        }
    }]
}

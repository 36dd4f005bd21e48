//! The PTX of every kernel, embedded, and which module serves a symbol on which part.
//!
//! scripts/ptx.py compiles kernels/*.cu to kernels/ptx/ with compilers pinned so that drivers from R520 on accept the
//! result (Hopper's tensor module from R525, which is the first that knows the part).

use std::ffi::CStr;

/// A module of PTX: one kernel.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Name of its file under kernels/, without an ending.
    pub name: &'static str,
    /// Its entry point.
    pub symbol: &'static str,
    /// The text that the driver compiles when it loads the module, with the NUL that ends it.
    terminated: &'static str,
    runs: Runs,
}

/// Where a module runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// On this compute capability and all later ones.
    From(u32, u32),
    /// On this one alone: it uses what no other part has (`sm_90a` and the like).
    Only(u32, u32),
}

macro_rules! module {
    ($name:literal) => {
        module!($name, $name, Runs::From(7, 0))
    };
    ($name:literal, $symbol:literal, $runs:expr) => {
        Module {
            name: $name,
            symbol: $symbol,
            terminated: concat!(include_str!(concat!("../../kernels/ptx/", $name, ".ptx")), "\0"),
            runs: $runs,
        }
    };
}

/// Every module. Where several have the same symbol, the first that runs on a part serves it there.
static MODULES: &[Module] = &[
    module!("stamp"),
    module!("fill_vectors"),
    module!("fill_cycle"),
    module!("pattern_fill"),
    module!("pattern_check"),
    module!("pattern_scan"),
    module!("shared_fill"),
    module!("shared_scan"),
    module!("empty"),
    module!("fma_pairs"),
    module!("tensor_wgmma", "tensor", Runs::Only(9, 0)),
    module!("tensor_mma", "tensor", Runs::From(8, 0)),
    module!("tensor_wmma", "tensor", Runs::From(7, 0)),
    module!("chase_l1"),
    module!("chase"),
    module!("chase_strong"),
    module!("touch_pages"),
    module!("stream_read"),
    module!("stream_write"),
    module!("stream_copy"),
    module!("scatter_read"),
    module!("l1_read"),
    module!("layer"),
    module!("fences"),
    module!("atomic_add"),
    module!("fault_illegal_address"),
    module!("fault_misaligned_address"),
    module!("fault_trap"),
    module!("fault_assert"),
    module!("fault_stack_overflow"),
    module!("fault_endless"),
];

/// The module that serves `symbol` on a part of this compute capability (major, minor): None below 7.0, and for a symbol
/// that no kernel has.
pub fn module(symbol: &str, compute_capability: (u32, u32)) -> Option<&'static Module> {
    MODULES.iter().find(|m| m.symbol == symbol && m.runs_on(compute_capability))
}

/// The modules that serve a part of this compute capability: one for every symbol, none below 7.0.
pub fn modules(compute_capability: (u32, u32)) -> impl Iterator<Item = &'static Module> {
    let serves = move |m: &&Module| module(m.symbol, compute_capability).is_some_and(|found| found.name == m.name);
    MODULES.iter().filter(serves)
}

impl Module {
    /// The text that the driver compiles, as C reads it: up to the NUL that ends it, and PTX holds no other.
    pub fn text(&self) -> &'static CStr {
        CStr::from_bytes_until_nul(self.terminated.as_bytes()).unwrap_or_default()
    }

    fn runs_on(&self, compute_capability: (u32, u32)) -> bool {
        match self.runs {
            Runs::From(major, minor) => compute_capability >= (major, minor),
            Runs::Only(major, minor) => compute_capability == (major, minor),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::workload::kernel::{Kernel, ParamType, SETUP};
    use crate::workload::{CATALOGUE, Enqueue, Op, resolve};

    /// Entry points of a module's text, each with its parameters as PTX types.
    fn entries(text: &str) -> BTreeMap<&str, Vec<&str>> {
        text.split(".entry ")
            .skip(1)
            .map(|entry| {
                let (name, rest) = entry.split_once('(').expect("parameters");
                let (list, _) = rest.split_once(')').expect("their end");
                let types = list.split(".param ").skip(1).map(|p| p.split_whitespace().next().expect("a type"));
                (name.trim(), types.collect())
            })
            .collect()
    }

    /// Every kernel that a workload launches or that sets one up.
    fn kernels() -> BTreeMap<&'static str, &'static Kernel> {
        let view = crate::workload::tests::H100;
        let mut kernels: BTreeMap<_, _> = SETUP.iter().map(|k| (k.symbol, *k)).collect();
        for w in CATALOGUE {
            let program = (w.program)(&resolve(w, &BTreeMap::new()).expect("defaults"), &view).expect("fits");
            for op in program.request {
                if let Op::Enqueue(Enqueue::Launch { kernel, .. }, _) = op {
                    kernels.insert(kernel.symbol, kernel);
                }
            }
        }
        kernels
    }

    const PARTS: [(u32, u32); 9] = [(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)];

    #[test]
    fn every_symbol_is_served_on_every_part_with_the_arguments_that_its_kernel_names() {
        let kernels = kernels();
        for part in PARTS {
            for (symbol, kernel) in &kernels {
                let found = module(symbol, part).unwrap_or_else(|| panic!("nothing serves {symbol} on {part:?}"));
                let text = found.text().to_str().expect("text");
                let mut wanted: Vec<_> =
                    kernel.params.iter().map(|p| if *p == ParamType::U32 { ".u32" } else { ".u64" }).collect();
                wanted.extend([".u64", ".u64", ".u32"]);
                assert_eq!(entries(text), BTreeMap::from([(*symbol, wanted)]), "{}", found.name);
            }
            let served: BTreeSet<_> = modules(part).map(|m| m.symbol).collect();
            assert_eq!(served, kernels.keys().copied().collect(), "{part:?}: no module without a kernel");
            assert_eq!(modules(part).count(), served.len(), "{part:?}: one module a symbol");
        }
        assert_eq!(modules((6, 1)).count(), 0);
    }

    #[test]
    fn each_part_gets_its_own_tensor_instructions() {
        let on = |part| module("tensor", part).map(|m| m.name);
        for part in PARTS {
            let expected = match part {
                (9, 0) => "tensor_wgmma",
                (8.., _) => "tensor_mma",
                _ => "tensor_wmma",
            };
            assert_eq!(on(part), Some(expected), "{part:?}");
        }
        assert_eq!(on((6, 1)), None);
    }

    #[test]
    fn targets_and_versions_are_those_that_old_drivers_take() {
        for m in MODULES {
            let text = m.text().to_str().expect("text");
            let (target, version) = match m.runs {
                Runs::From(major, minor) => (format!("sm_{major}{minor}"), "7.8"),
                Runs::Only(major, minor) => (format!("sm_{major}{minor}a"), "8.0"),
            };
            assert!(text.contains(&format!("\n.target {target}\n")), "{} is not for {target}", m.name);
            assert!(text.contains(&format!("\n.version {version}\n")), "{} is not PTX ISA {version}", m.name);
        }
    }

    #[test]
    fn every_source_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        let sources: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("kernels/")
            .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
            .filter_map(|name| name.strip_suffix(".cu").map(str::to_owned))
            .collect();
        assert_eq!(sources, MODULES.iter().map(|m| m.name.to_owned()).collect());
    }

    /// Launches that the emulation runs (kernels/emulate/main.cpp says how arguments are written): whole and ragged sizes,
    /// one block and several, more than a footprint and less, every parity of products.
    const CASES: &str = "\
        stamp 1 32
        stamp 3 256
        empty 1 32
        empty 5 256
        fill_vectors 3 256 z65552 65552 7
        fill_vectors 1 32 z4096 4096 1
        fill_cycle 3 256 z131072 131072 128 t1024
        fill_cycle 2 64 z67108864 67108864 2097152 t32
        fill_cycle 1 32 z1048576 1048576 4096 t256
        pattern_fill 3 256 z65552 65552 81985529216486 1099511627776
        pattern_fill 1 32 z4096 4096 7 1099511627776
        pattern_check 2 256 p65536:81985529216486 65536 81985529216486 1099511627776 z256
        pattern_check 3 256 p65552:7 65552 7 1099511627776 z256
        pattern_scan 3 256 p65552:7 65552 7 z256
        pattern_scan 2 256 p65536:8 65536 7 z256
        pattern_scan 1 64 z4096 4096 81985529216486 z256
        shared_fill 3 32 7
        shared_scan 3 32 7 z256
        chase 8 32 c131072:128 131072 128 700
        chase 1 32 c16384:128 16384 128 16
        chase 3 32 c67108864:2097152 67108864 2097152 65
        chase_strong 8 32 c131072:128 131072 128 100
        chase_l1 8 32 c5248:128 5248 128 500
        chase_l1 2 32 c65536:128 65536 128 1024
        touch_pages 3 32 c67108864:2097152 67108864 50
        stream_read 4 256 v262144 262144 100000
        stream_read 3 256 v65552 65552 655360
        stream_read 2 256 v4096 4096 20000
        stream_read 2 256 v65536 65536 160
        stream_write 4 256 z262144 262144 100000
        stream_write 3 256 z65536 65536 655360
        stream_copy 4 256 v262144 262144 200000
        stream_copy 3 256 v65568 65568 655360
        scatter_read 4 256 v262144 262144 1000000
        scatter_read 2 256 v1000 1000 50000
        l1_read 3 256 v163840 163840 1000000
        l1_read 2 256 v2000 2000 12345
        fma_pairs 2 256 0
        fma_pairs 3 256 1
        fma_pairs 2 256 1000
        fma_pairs 1 256 1003
        fma_pairs 1 128 64
        layer 4 256 v262144 z4096 262144 65536 1024
        layer 3 256 v100000 z1024 100000 7000 333
        layer 2 256 v100000 z1024 100000 90000 130
        fault_endless 2 64 v4096
        fences 2 256 z2048 64
        fences 3 64 z4096 1
        atomic_add 2 256 z262144 262144 20
        atomic_add 3 256 z4096 4096 7
        tensor 1 256 v65536 65536 65536 1 4096
        tensor 2 256 v65536 65536 65536 24 4096
        tensor 3 256 v100000 100000 50000 41 2048
        tensor 1 256 v65536 65536 16 64 1024
        tensor 1 256 v8192 8192 0 13 1024";

    #[test]
    fn references_are_those_that_the_emulation_checks() {
        use crate::workload::{Arg, LaunchArgs};
        let kernels = kernels();
        let mut text = String::from(
            "# What src/workload says the checksum of each launch is; scripts/check_kernels.py --emulate compares the kernels.\n",
        );
        for case in CASES.lines().map(str::trim) {
            let mut words = case.split_whitespace();
            let kernel = kernels[words.next().expect("a symbol")];
            let mut number = || words.next().and_then(|n| n.parse().ok()).expect("a number");
            let (grid, block) = (number(), number());
            let args: Vec<Arg> = words
                .zip(kernel.params)
                .enumerate()
                .map(|(i, (word, param))| match param {
                    ParamType::U32 => Arg::U32(word.parse().expect(case)),
                    ParamType::U64 => Arg::U64(word.parse().expect(case)),
                    ParamType::Pointer => Arg::Buffer(i),
                })
                .collect();
            assert_eq!(args.len(), kernel.params.len(), "{case}");
            let reference = (kernel.reference)(&LaunchArgs { grid, block, args: &args });
            text += &format!("{reference} {case}\n");
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kernel_references.txt");
        if std::env::var_os("CROSSTALK_BLESS").is_some() {
            std::fs::write(path, &text).expect("tests/fixtures can be written");
        }
        let found = std::fs::read_to_string(path).expect("the fixture is there");
        assert!(found == text, "tests/fixtures/kernel_references.txt differs: CROSSTALK_BLESS=1 cargo test emulation");
    }
}

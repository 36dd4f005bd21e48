//! Modules: PTX text, of which the stand-in reads the version, the target and the names of the entry points.

use std::ffi::{c_char, c_void};

use crosstalk::workload;

use crate::config;
use crate::entry::{Code, Out, entry_points, text};
use crate::launch::Function;
use crate::process::{Process, current, process};
use crate::results;

/// A loaded module.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    context: u64,
    entries: Vec<String>,
}

/// Reads PTX.
fn parse(process: &Process, gpu: usize, ptx: &str, context: u64) -> Result<Module, Code> {
    let directive = |name: &str| {
        let line = ptx.lines().map(str::trim).find(|l| l.starts_with(name))?;
        line.get(name.len()..)?.split([',', ' ', '\t', ';']).find(|word| !word.is_empty()).map(str::to_owned)
    };
    let version = directive(".version").and_then(|v| config::version(&v)).ok_or(results::INVALID_IMAGE)?;
    if config::version(&process.loaded.config.ptx_newest).is_some_and(|newest| version > newest) {
        return Err(results::UNSUPPORTED_PTX_VERSION);
    }
    let target = directive(".target").ok_or(results::INVALID_IMAGE)?;
    let digits = target.strip_prefix("sm_").ok_or(results::INVALID_IMAGE)?;
    let exact = digits.ends_with('a');
    let wanted: u32 = digits.trim_end_matches(['a', 'f']).parse().map_err(|_| results::INVALID_IMAGE)?;
    let (major, minor) = process.gpu(gpu)?.part.capability();
    let have = major * 10 + minor;
    if wanted > have || (exact && wanted != have) {
        return Err(results::NO_BINARY_FOR_GPU);
    }
    let entry = |line: &str| {
        let (_, rest) = line.split_once(".entry")?;
        let name = rest.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).next()?;
        (!name.is_empty()).then(|| name.to_owned())
    };
    Ok(Module { context, entries: ptx.lines().filter_map(entry).collect() })
}

entry_points! {
    fn cuModuleLoadData(module: Out<u64>, image: *const c_void) {
        let process = process()?;
        let mut tables = process.tables();
        let (handle, context) = current(&tables)?;
        let loaded = parse(process, context.gpu, &text(image.cast::<c_char>())?, handle)?;
        let handle = tables.handle();
        tables.modules.insert(handle, loaded);
        module.put(handle)
    }

    fn cuModuleLoadDataEx(
        module: Out<u64>,
        image: *const c_void,
        _options: u32,
        _names: *const u32,
        _values: *const *mut c_void,
    ) {
        Code::from_u32(cuModuleLoadData(module, image))
    }

    fn cuModuleUnload(module: u64) {
        let process = process()?;
        let mut tables = process.tables();
        tables.modules.remove(&module).ok_or(results::INVALID_HANDLE)?;
        tables.functions.retain(|_, f| f.module != module);
        Ok(())
    }

    fn cuModuleGetFunction(function: Out<u64>, module: u64, name: *const c_char) {
        let process = process()?;
        let mut tables = process.tables();
        let name = text(name)?;
        let found = tables.modules.get(&module).ok_or(results::INVALID_HANDLE)?;
        if !found.entries.contains(&name) {
            return Err(results::NOT_FOUND);
        }
        let kernel = workload::kernels().find(|k| k.symbol == name).ok_or(results::NOT_FOUND)?;
        let context = found.context;
        let handle = tables.handle();
        tables.functions.insert(handle, Function { module, context, kernel });
        function.put(handle)
    }
}

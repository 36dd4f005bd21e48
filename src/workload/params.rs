//! Parameters: descriptors, how stored text becomes values, and the site on which a program is built.

use std::collections::BTreeMap;

use super::{Buffer, Enqueue, GpuView, HostOp, Op, Params, Program, Workload, WorkloadError};
use crate::field::{Field, Kind, Value};
use crate::units::{Bytes, Nanos};

/// A whole number with a default.
pub(super) const fn count(key: &'static str, range: (u64, u64), default: &'static str, doc: &'static str) -> Field {
    Field { key, kind: Kind::Count { min: range.0, max: range.1 }, default: Some(default), required: false, doc }
}

/// A length of time with a default.
pub(super) const fn duration(
    key: &'static str,
    range: (Nanos, Nanos),
    default: &'static str,
    doc: &'static str,
) -> Field {
    Field { key, kind: Kind::Duration { min: range.0, max: range.1 }, default: Some(default), required: false, doc }
}

/// An amount of memory, or a share of what the tenant sees. Without a default the program derives it from the place
/// where it runs, and `doc` says how.
pub(super) const fn size(key: &'static str, least: Bytes, default: Option<&'static str>, doc: &'static str) -> Field {
    Field { key, kind: Kind::Size { min: least, max: Bytes::gib(1024) }, default, required: false, doc }
}

/// Reads parameters stored as text and puts in the defaults. A field without a default that is not given stays out:
/// the program derives it from what the tenant sees.
///
/// # Errors
/// Names every key that the workload does not have, every value that is no such value, and every required key that is
/// missing, in one text.
pub fn resolve(workload: &Workload, given: &BTreeMap<String, String>) -> Result<Params, String> {
    resolve_fields(workload.id, workload.params, given)
}

/// The same for anything with an `id` that has parameters.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn resolve_fields(
    id: &str,
    fields: &'static [Field],
    given: &BTreeMap<String, String>,
) -> Result<Params, String> {
    let mut wrong = Vec::new();
    let mut values = BTreeMap::new();
    for key in given.keys().filter(|key| !fields.iter().any(|f| f.key == key.as_str())) {
        let keys: Vec<&str> = fields.iter().map(|f| f.key).collect();
        let has = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
        wrong.push(format!("{id} has no parameter {key:?}; it has {has}"));
    }
    for field in fields {
        let Some(text) = given.get(field.key).map(String::as_str).or(field.default) else {
            if field.required {
                wrong.push(format!("{id} needs the parameter {}", field.key));
            }
            continue;
        };
        match field.kind.parse(text) {
            Ok(value) => drop(values.insert(field.key, value)),
            Err(why) => wrong.push(format!("{} of {id}: {why}", field.key)),
        }
    }
    if wrong.is_empty() { Ok(Params(values)) } else { Err(wrong.join("; ")) }
}

impl Params {
    /// A whole number.
    pub fn count(&self, key: &str) -> Option<u64> {
        match self.0.get(key) {
            Some(Value::Count(n)) => Some(*n),
            _ => None,
        }
    }

    /// A length of time.
    pub fn duration(&self, key: &str) -> Option<Nanos> {
        match self.0.get(key) {
            Some(Value::Duration(t)) => Some(*t),
            _ => None,
        }
    }

    /// One of a list of words, or a name.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether a flag is set.
    pub fn flag(&self, key: &str) -> bool {
        self.0.get(key) == Some(&Value::Flag(true))
    }

    /// An amount of memory, shares taken of what the tenant sees.
    pub fn size(&self, key: &str, view: &GpuView) -> Option<Bytes> {
        view.size(self.0.get(key)?)
    }
}

/// Where a program is built: the workload, its parameters and what the tenant sees. Turns everything that does not fit
/// into a [`WorkloadError`] that says what would.
pub(super) struct Site<'a> {
    id: &'static str,
    params: &'a Params,
    pub view: &'a GpuView,
}

impl<'a> Site<'a> {
    /// # Errors
    /// Where the tenant sees no SM, no clock or no memory: nothing can be sized from that.
    pub fn new(id: &'static str, params: &'a Params, view: &'a GpuView) -> Result<Self, WorkloadError> {
        let site = Self { id, params, view };
        if view.sms == 0 || view.sm_mhz == 0 || view.memory.0 == 0 {
            return Err(site.refuse("this tenant sees no SM, no clock or no memory: give its seat a share".to_owned()));
        }
        Ok(site)
    }

    pub fn refuse(&self, reason: String) -> WorkloadError {
        WorkloadError { workload: self.id, reason }
    }

    fn missing(&self, key: &str) -> WorkloadError {
        self.refuse(format!("the parameter {key} is missing or of another kind"))
    }

    /// A whole-number parameter that becomes a kernel argument.
    pub fn count(&self, key: &str) -> Result<u32, WorkloadError> {
        let n = self.params.count(key).ok_or_else(|| self.missing(key))?;
        u32::try_from(n).map_err(|_| self.refuse(format!("{key} = {n} is above {}", u32::MAX)))
    }

    /// A duration parameter.
    pub fn duration(&self, key: &str) -> Result<Nanos, WorkloadError> {
        self.params.duration(key).ok_or_else(|| self.missing(key))
    }

    /// A size parameter, resolved here; `derived` where it was not given.
    pub fn size(&self, key: &str, derived: Option<u64>) -> Result<u64, WorkloadError> {
        match (self.params.size(key, self.view), derived) {
            (Some(bytes), _) => Ok(bytes.0),
            (None, Some(bytes)) => Ok(bytes),
            (None, None) => Err(self.missing(key)),
        }
    }

    /// A device quantity that the view must know.
    pub fn known(&self, what: &str, value: u64) -> Result<u64, WorkloadError> {
        if value == 0 { Err(self.refuse(format!("the {what} of this GPU is unknown"))) } else { Ok(value) }
    }

    /// A number that becomes a 32-bit kernel argument, at least 1.
    pub fn argument(&self, what: &str, value: u64) -> Result<u32, WorkloadError> {
        u32::try_from(value.max(1))
            .map_err(|_| self.refuse(format!("{what} = {value} is above {}: ask for a shorter kernel", u32::MAX)))
    }

    /// SM cycles in `time` at the highest clock.
    pub fn cycles(&self, time: Nanos) -> u64 {
        mul_div(time.0, u64::from(self.view.sm_mhz), 1_000)
    }

    /// Bytes that `per_second` moves in `time`.
    pub fn moved(&self, per_second: u64, time: Nanos) -> u64 {
        mul_div(per_second, time.0, 1_000_000_000)
    }

    /// The program, if what it holds fits.
    ///
    /// # Errors
    /// Where it holds more than the tenant sees.
    pub fn program(&self, buffers: Vec<Buffer>, request: Vec<Op>) -> Result<Program, WorkloadError> {
        let footprint = Bytes(buffers.iter().map(|b| b.bytes.0).sum::<u64>() + held_by_host_calls(&request));
        if footprint > self.view.memory {
            return Err(self.refuse(format!(
                "it holds {}, and this tenant sees {}: ask for less, or give its seat a larger share",
                footprint.for_people(),
                self.view.memory.for_people()
            )));
        }
        Ok(Program { buffers, request, footprint })
    }
}

/// `a · b / c` without overflow on the way; saturates at the end.
pub(super) fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(c.max(1))).unwrap_or(u64::MAX)
}

/// Most device memory that the request's own allocations hold at once.
fn held_by_host_calls(request: &[Op]) -> u64 {
    let mut held = std::collections::VecDeque::new();
    let mut most = 0;
    for op in request {
        match op {
            Op::Host(HostOp::Alloc { bytes }) => held.push_back(*bytes),
            Op::Host(HostOp::Free) => drop(held.pop_front()),
            Op::Host(_) | Op::Enqueue(..) | Op::Mark(_) => {}
        }
        most = most.max(held.iter().sum());
    }
    most
}

/// One launch of `kernel`.
pub(super) fn launch(kernel: &'static super::Kernel, grid: u32, block: u32, args: Vec<super::Arg>) -> Op {
    launches(kernel, grid, block, args, 1)
}

/// `times` identical launches of `kernel`, back to back.
pub(super) fn launches(kernel: &'static super::Kernel, grid: u32, block: u32, args: Vec<super::Arg>, times: u32) -> Op {
    Op::Enqueue(Enqueue::Launch { kernel, grid, block, args }, times)
}

//! Whether two runs are of one plan: the same scenario on the same card in the same layout.

use serde_json::Value;

use crate::gpu::Inventory;
use crate::run_dir::RecordedRun;

/// In what `other` differs from `run`, so that it is no further run of the same plan; `None`: in nothing that counts. The seed
/// may differ, and so may names of MIG instances, which are new after each reboot.
pub fn unlike(run: &RecordedRun, other: &RecordedRun) -> Option<String> {
    let (a, b) = (&run.manifest, &other.manifest);
    if a.provenance != b.provenance {
        return Some(format!("provenance is {}, not {}", shown(&b.provenance), shown(&a.provenance)));
    }
    if a.created_by != b.created_by {
        return Some(format!("it was taken by {}, not by {}", b.created_by, a.created_by));
    }
    if let Some(difference) = first_difference("plan", &plan(run)?, &plan(other)?) {
        return Some(difference);
    }
    // Whoever gives one run twice has seen nothing twice.
    (!run.arms.is_empty() && run.arms == other.arms)
        .then(|| "it holds the same measurements: it is the same run".to_owned())
}

/// The plan as JSON, without what may differ.
fn plan(run: &RecordedRun) -> Option<Value> {
    let mut plan = run.manifest.plan.clone();
    plan.seed = 0;
    nameless(&mut plan.inventory);
    // Accepted risks change no measurement.
    plan.accepted.clear();
    serde_json::to_value(plan).ok()
}

fn nameless(inventory: &mut Inventory) {
    for instance in inventory.gpus.iter_mut().flat_map(|gpu| &mut gpu.instances) {
        (instance.gpu_instance, instance.compute_instance) = (None, None);
        instance.uuid.clear();
    }
}

/// The first place where two trees differ, as a sentence.
fn first_difference(path: &str, a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            let value = |of: &serde_json::Map<String, Value>, key: &String| of.get(key).cloned().unwrap_or(Value::Null);
            keys.into_iter().find_map(|key| first_difference(&format!("{path}.{key}"), &value(a, key), &value(b, key)))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut items = a.iter().zip(b).enumerate();
            items.find_map(|(i, (a, b))| first_difference(&format!("{path}[{i}]"), a, b))
        }
        (Value::Array(a), Value::Array(b)) => Some(format!("{path} has {} entries, not {}", b.len(), a.len())),
        (a, b) => (a != b).then(|| format!("{path} is {}, not {}", shown(b), shown(a))),
    }
}

fn shown(value: &impl serde::Serialize) -> String {
    const MOST: usize = 60;
    let text = serde_json::to_string(value).unwrap_or_default();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

//! What a fault of one context does to others: what `stand-in.toml` says, else what is documented or assumed (README).

use crate::config::{self, Among};

/// Set in the word of a context that was reached by another's fault.
pub(crate) const REACHED: u32 = 1 << 29;
/// Its work never ends.
pub(crate) const HANGS: u32 = 1 << 30;
/// The server of MPS takes no new clients while it is there.
pub(crate) const REFUSES: u32 = 1 << 31;
/// Its code, 0 where it gets none.
pub(crate) const CODE: u32 = 0xffff;

/// What the context that takes a fault gets itself, and what the device reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) code: u32,
    /// 0: none.
    pub(crate) xid: u32,
    pub(crate) xid_after_ms: u64,
}

/// Of a fault: the name of its kernel without `fault_`, "died" or "context-destroyed".
pub(crate) fn own(fault: &str) -> Own {
    let (code, xid) = match fault {
        "illegal-address" => (700, 31),
        "misaligned-address" => (716, 13),
        "trap" => (719, 13),
        "assert" => (710, 43),
        "stack-overflow" => (719, 13),
        "died" => (0, 45),
        _ => (0, 0),
    };
    let given = config::loaded().and_then(|l| l.config.fault.own.iter().find(|own| own.fault == fault));
    Own {
        code: given.and_then(|g| g.code).unwrap_or(code),
        xid: given.and_then(|g| g.xid).unwrap_or(xid),
        xid_after_ms: given.and_then(|g| g.xid_after_ms).unwrap_or(1),
    }
}

/// The word of another context; 0: nothing happens to it.
pub(crate) fn reach(fault: &str, among: Among) -> u32 {
    let given = config::loaded().and_then(|l| {
        let named = |rule: &&config::Blast| (rule.fault == fault || rule.fault == "all") && rule.among == among;
        l.config.fault.blast.iter().find(named)
    });
    match given {
        Some(rule) => {
            let flag = |set: bool, flag: u32| if set { flag } else { 0 };
            let word = (rule.code & CODE) | flag(rule.hangs, HANGS) | flag(rule.refuses, REFUSES);
            if word == 0 { 0 } else { word | REACHED }
        }
        None => {
            let own = own(fault).code;
            if among == Among::Mps && own != 0 { own | REACHED | REFUSES } else { 0 }
        }
    }
}

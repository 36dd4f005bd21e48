//! Whether this process is a client of MPS, and what it has as one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use crosstalk::machine::{SmShare, Terms};
use crosstalk::units::Bytes;

use crate::entry::Code;
use crate::pipe;
use crate::process::Process;
use crate::results;
use crate::state::{Role, Slot, me};

/// Device memory of a server (gpu-facts: 60 MiB on an H100).
const SERVER_BYTES: u64 = 60 << 20;

/// How this process is on its GPUs.
#[derive(Clone, Debug, Default)]
pub(crate) enum Membership {
    /// By contexts of its own, in turns with those of others.
    #[default]
    Alone,
    /// It is the server of MPS.
    Server,
    /// Through a server.
    Client {
        server: u32,
        /// Part of the SMs, percent, where it is limited.
        percentage: Option<f64>,
        /// SMs of its static partition.
        partition: Option<u32>,
        /// Bytes that it may allocate, by device as it sees them.
        limits: Vec<(usize, u64)>,
    },
}

impl Membership {
    /// Its SMs, of so many.
    pub(crate) fn share(&self, sms: u32) -> SmShare {
        match self {
            Self::Alone => SmShare::All,
            // It launches nothing.
            Self::Server => SmShare::Cap(0),
            Self::Client { partition: Some(own), .. } => SmShare::Own((*own).min(sms)),
            Self::Client { percentage: Some(percent), .. } => {
                SmShare::Cap(((f64::from(sms) * percent / 100.0) as u32).clamp(1, sms))
            }
            Self::Client { .. } => SmShare::All,
        }
    }

    /// Of so many SMs, those that its device has for it.
    pub(crate) fn sms(&self, sms: u32) -> u32 {
        match self.share(sms) {
            SmShare::Cap(n) | SmShare::Own(n) => n,
            SmShare::All => sms,
        }
    }

    /// Bytes that the process may allocate on the device with this ordinal, where that is limited.
    pub(crate) fn limit(&self, device: usize) -> Option<u64> {
        let Self::Client { limits, .. } = self else { return None };
        limits.iter().find(|(index, _)| *index == device).map(|(_, bytes)| *bytes)
    }

    /// On what terms its context on the device with this ordinal opens, where they are not the usual.
    pub(crate) fn terms(&self, device: usize, sms: u32) -> Option<Terms> {
        match self {
            Self::Alone => None,
            Self::Server => Some(Terms { sms: self.share(sms), memory_limit: None, overhead: Some(SERVER_BYTES) }),
            Self::Client { .. } => {
                Some(Terms { sms: self.share(sms), memory_limit: self.limit(device), overhead: None })
            }
        }
    }

    /// This process as a slot names it.
    pub(crate) fn slot(&self) -> Slot {
        let role = match self {
            Self::Alone => Role::Plain,
            Self::Server => Role::Server,
            Self::Client { server, .. } => Role::Client(*server),
        };
        me(role)
    }
}

/// Asks the control daemon for its server, where there is one: a daemon that cannot be reached is none, as in the field.
/// The connection is this process's membership.
pub(crate) fn join() -> Result<(Membership, Option<BufReader<UnixStream>>), Code> {
    if std::env::var_os(pipe::SERVER).is_some() {
        return Ok((Membership::Server, None));
    }
    let Ok(mut stream) = UnixStream::connect(pipe::directory().join(pipe::SOCKET)) else {
        return Ok((Membership::Alone, None));
    };
    let partition = std::env::var("CUDA_MPS_SM_PARTITION").unwrap_or_default();
    let mut answer = String::new();
    let failed = |_| results::MPS_CONNECTION_FAILED;
    writeln!(stream, "client {} {partition}", std::process::id()).map_err(failed)?;
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut answer).map_err(failed)?;
    let words: Vec<&str> = answer.split_whitespace().collect();
    let number = |i: usize| words.get(i).and_then(|w| w.parse::<u32>().ok());
    match (words.first().copied(), number(1)) {
        (Some("server"), Some(server)) => {
            let member = Membership::Client {
                server,
                percentage: std::env::var("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE").ok().and_then(|p| p.parse().ok()),
                partition: number(2),
                limits: limits(&std::env::var("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT").unwrap_or_default()),
            };
            Ok((member, Some(reader)))
        }
        (Some("error"), Some(code)) => Err(Code(code)),
        (Some("alone"), _) => Ok((Membership::Alone, None)),
        _ => Err(results::MPS_CONNECTION_FAILED),
    }
}

/// "0=1G,1=512M".
fn limits(text: &str) -> Vec<(usize, u64)> {
    let one = |part: &str| {
        let (device, size) = part.split_once('=')?;
        let (number, unit) = size.trim().split_at(size.trim().len().checked_sub(1)?);
        let unit = match unit {
            "G" | "g" => Bytes::gib(1),
            "M" | "m" => Bytes::mib(1),
            _ => return None,
        };
        Some((device.trim().parse().ok()?, number.parse::<u64>().ok()?.saturating_mul(unit.0)))
    };
    text.split(',').filter_map(one).collect()
}

/// Heeds what the daemon says to a client, until it is gone.
pub(crate) fn heed(process: &'static Process, mut connection: BufReader<UnixStream>) {
    let run = move || {
        loop {
            let mut line = String::new();
            match connection.read_line(&mut line) {
                Ok(0) | Err(_) => return process.lose_contexts(results::MPS_RPC_FAILURE),
                Ok(_) if line.trim() == "terminated" => process.lose_contexts(results::MPS_CLIENT_TERMINATED),
                Ok(_) => {}
            }
        }
    };
    if let Err(e) = std::thread::Builder::new().name("stand-in-mps".to_owned()).spawn(run) {
        eprintln!("crosstalk stand-in driver: no thread: {e}");
    }
}

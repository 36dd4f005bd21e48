//! A DCGM exporter as an optional source: what a monitor of the user's tells of a GPU and of each of its instances.
//!
//! It is read between arms only. Whatever keeps it from answering in time is no error: then nothing is known from it. What it
//! says is somebody else's text: of it, only numbers under names that are known here are kept.

mod http;
mod text;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::backend::DcgmReading;

/// Where it is: `ADDRESS:PORT`, or "off".
pub(crate) const VARIABLE: &str = "CROSSTALK_DCGM_EXPORTER";
/// Where dcgm-exporter listens by default.
const USUAL: &str = "127.0.0.1:9400";
/// How long it may take to answer, from the first packet to the last byte. It renders what it has collected before.
const ANSWER: Duration = Duration::from_millis(500);

/// An exporter, which may or may not answer.
#[derive(Debug)]
pub struct DcgmExporter {
    at: SocketAddr,
    named: bool,
    /// It did not answer: it is not asked again, or every arm of a run would wait for it.
    silent: AtomicBool,
}

impl DcgmExporter {
    /// The one that the environment, read by `variable`, names; by default that of this machine. `None`: "off".
    ///
    /// # Errors
    /// Where what it names is no address, in words.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let named = variable(VARIABLE).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let text = named.as_deref().unwrap_or(USUAL);
        if text == "off" {
            return Ok(None);
        }
        // No name server is asked: it may take longer than an answer.
        let number =
            text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        let at = number.parse().map_err(|_| {
            format!("{VARIABLE}={text:?} is no address: give ADDRESS:PORT with a numeric address, like {USUAL}, or off")
        })?;
        Ok(Some(Self { at, named: named.is_some(), silent: AtomicBool::new(false) }))
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// Whether the user named it.
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// What it says of the whole GPU `uuid` and of each of its instances, in order of their ids. Nothing where it does not
    /// answer; once it has not, it is not asked again.
    pub fn read(&self, uuid: &str) -> Vec<DcgmReading> {
        if self.silent.load(Ordering::Relaxed) {
            return Vec::new();
        }
        match self.ask(uuid) {
            Ok(readings) => readings,
            Err(_) => {
                self.silent.store(true, Ordering::Relaxed);
                Vec::new()
            }
        }
    }

    /// What it says of the whole GPU `uuid` and of each of its instances, in order of their ids.
    ///
    /// # Errors
    /// Where it does not answer in time, or with anything but metrics, in words.
    pub fn ask(&self, uuid: &str) -> Result<Vec<DcgmReading>, String> {
        http::get(self.at, "/metrics", ANSWER).map(|body| text::readings(&body, uuid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Result<Option<DcgmExporter>, String> {
        DcgmExporter::from_environment(&|name| (name == VARIABLE).then(|| text.to_owned()))
    }

    #[test]
    fn an_address_is_given_in_numbers_or_is_the_usual_one() {
        let address = |text: &str| named(text).unwrap().unwrap().address().to_string();
        assert_eq!(address("10.0.0.7:9401"), "10.0.0.7:9401");
        assert_eq!(address("[::1]:9400"), "[::1]:9400");
        assert_eq!(address(" localhost:9400 "), "127.0.0.1:9400");
        let usual = DcgmExporter::from_environment(&|_| None).unwrap().unwrap();
        assert_eq!((usual.address().to_string().as_str(), usual.is_named()), (USUAL, false));
        assert!(named("off").unwrap().is_none());
        for wrong in ["dcgm.monitoring:9400", "9400", "http://127.0.0.1:9400/metrics", "127.0.0.1"] {
            let words = named(wrong).unwrap_err();
            assert!(words.contains(wrong) && words.contains("127.0.0.1:9400"), "{words}");
        }
    }

    #[test]
    fn one_that_does_not_answer_is_asked_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let exporter = named(&listener.local_addr().unwrap().to_string()).unwrap().unwrap();
        drop(listener);
        assert!(exporter.read("GPU-1").is_empty());
        assert!(exporter.silent.load(Ordering::Relaxed));
        let words = exporter.ask("GPU-1").unwrap_err();
        assert!(words.contains(&exporter.address().to_string()), "{words}");
    }
}

//! One GET by HTTP/1.0, within a time and a size, whatever is on the other side.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// More than the metrics of a node with eight divided GPUs take, a hundred times over.
const LONGEST: usize = 8 << 20;

/// The body of `path` at `at`.
///
/// # Errors
/// Where it is not there in whole after `limit`, is longer than 8 MiB, or is no answer of status 200, in words.
pub(super) fn get(at: SocketAddr, path: &str, limit: Duration) -> Result<Vec<u8>, String> {
    let until = Instant::now() + limit;
    let failed = |what: &str, error: std::io::Error| {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        match error.kind() {
            TimedOut | WouldBlock => format!("{at} has not answered within {} ms", limit.as_millis()),
            _ => format!("{at} {what}: {error}"),
        }
    };
    let left = || until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    let late = || failed("", std::io::ErrorKind::TimedOut.into());
    let mut stream =
        TcpStream::connect_timeout(&at, left().ok_or_else(late)?).map_err(|e| failed("does not answer", e))?;
    stream.set_write_timeout(left()).map_err(|e| failed("cannot be asked", e))?;
    // HTTP/1.0: no connection that stays, no body in pieces.
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {at}\r\nAccept: text/plain\r\nAccept-Encoding: identity\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| failed("cannot be asked", e))?;
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        // Time runs for the whole answer: one that comes byte by byte is late, too.
        let left = left().ok_or_else(late)?;
        stream.set_read_timeout(Some(left)).map_err(|e| failed("cannot be read", e))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed("broke off", e)),
        }
        if answer.len() > LONGEST {
            return Err(format!("{at} has sent more than {} MiB: that is no DCGM exporter", LONGEST >> 20));
        }
    }
    body(answer).ok_or_else(|| format!("{at} has answered with something else than metrics"))
}

/// What follows the head of an answer of status 200.
fn body(mut answer: Vec<u8>) -> Option<Vec<u8>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let mut lines = head.lines();
    let mut status = lines.next()?.split_ascii_whitespace();
    let ok = status.next()?.starts_with("http/1.") && status.next() == Some("200");
    // A proxy that pays no heed to the version that was asked for.
    let plain = lines.all(|line| !line.starts_with("transfer-encoding:") && !line.starts_with("content-encoding:"));
    (ok && plain).then(|| answer.split_off(end + 4))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A server of one connection, which reads the request and does the rest by `serve`.
    fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream);
            while reader.read_line(&mut request).unwrap() > 2 {}
            serve(reader.into_inner());
            request
        });
        (at, thread)
    }

    fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
        let answer = answer.into();
        server(move |mut stream| {
            let _ = stream.write_all(&answer);
        })
        .0
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn a_body_comes_through_and_the_request_is_plain() {
        let (at, thread) = server(|mut stream| {
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\na 1\r\n\r\nb 2\n").unwrap();
        });
        assert_eq!(get(at, "/metrics", LONG).unwrap(), b"a 1\r\n\r\nb 2\n");
        let request = thread.join().unwrap();
        assert!(request.starts_with("GET /metrics HTTP/1.0\r\n") && request.ends_with("\r\n\r\n"), "{request}");
    }

    #[test]
    fn whatever_is_no_metrics_is_told_apart() {
        for answer in [
            &b""[..],
            b"\xff\xfe\x00garbage\r\n\r\nbody",
            b"HTTP/1.1 404 Not Found\r\n\r\nDCGM_FI_DEV_FB_USED 1\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b",
            b"HTTP/1.1 200 OK\r\nno end of the head",
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
        ] {
            let words = get(answering(answer), "/metrics", LONG).unwrap_err();
            assert!(words.contains("something else than metrics") || words.contains("broke off"), "{words}");
        }
    }

    #[test]
    fn an_endless_answer_is_cut_off() {
        let (at, _) = server(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            let piece = vec![b'x'; 1 << 16];
            while stream.write_all(&piece).is_ok() {}
        });
        assert!(get(at, "/metrics", LONG).unwrap_err().contains("more than 8 MiB"));
    }

    #[test]
    fn silence_and_drops_of_an_answer_are_late() {
        let (silent, _) = server(|stream| {
            std::thread::sleep(LONG);
            drop(stream);
        });
        let (dripping, _) = server(|mut stream| {
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        for at in [silent, dripping] {
            let begun = Instant::now();
            assert!(get(at, "/metrics", SHORT).unwrap_err().contains("not answered within 200 ms"));
            assert!(begun.elapsed() < LONG / 2);
        }
    }
}

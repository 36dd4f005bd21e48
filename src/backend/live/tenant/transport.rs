//! Lines in, lines out: all that the protocol knows of whatever carries it.

use std::io::{self, BufRead, Read, Write};

use crate::tenant::protocol::{LONGEST_LINE, Order, Reply};

/// The next order; `None` where the other side closed.
///
/// # Errors
/// Where a line cannot be read, is too long, is torn, or is no order.
pub(super) fn read(input: &mut impl BufRead) -> io::Result<Option<Order>> {
    let garbage = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut line = Vec::new();
    input.by_ref().take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => serde_json::from_slice(&line).map(Some).map_err(|error| {
            let begins = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
            garbage(format!("a line is no order ({error}); it begins {begins:?}"))
        }),
        Some(_) if line.len() >= LONGEST_LINE => Err(garbage(format!("a line is longer than {LONGEST_LINE} bytes"))),
        Some(_) => Err(garbage(format!("the last line ends after {} bytes without a line feed", line.len() + 1))),
    }
}

/// Sends a reply.
///
/// # Errors
/// Where nobody reads any more.
pub(super) fn write(output: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_orders_or_told_apart() {
        let mut input = io::Cursor::new(b"{\"quiet\":{}}\n".to_vec());
        assert_eq!(read(&mut input).unwrap(), Some(Order::Quiet {}));
        assert_eq!(read(&mut input).unwrap(), None, "closed");
        let refused = |bytes: Vec<u8>| read(&mut io::Cursor::new(bytes)).unwrap_err().to_string();
        assert!(refused(b"hello\n".to_vec()).contains("\"hello\""));
        assert!(refused(b"{\"quiet\":{}}".to_vec()).contains("without a line feed"));
        assert!(refused(vec![b' '; LONGEST_LINE + 5]).contains("longer than"));
    }
}

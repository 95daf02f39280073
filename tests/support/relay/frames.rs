//! Where one RESP value ends and the next begins; RESP2 and RESP3, commands in one line too.

/// A line that is longer begins nothing that is known.
const LONGEST_LINE: usize = 64 * 1024;

/// Bytes that are no RESP.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotResp;

/// Bytes that have come, cut into values.
#[derive(Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// All values that are whole.
    pub(super) fn whole(&mut self) -> Result<Vec<Vec<u8>>, NotResp> {
        let (mut frames, mut from) = (Vec::new(), 0);
        while let Some(length) = length(&self.0[from..])? {
            frames.push(self.0[from..from + length].to_vec());
            from += length;
        }
        self.0.drain(..from);
        Ok(frames)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// The length of the value that these bytes begin with; `None`: it is not all there.
fn length(bytes: &[u8]) -> Result<Option<usize>, NotResp> {
    let (mut at, mut missing) = (0, 1_usize);
    while missing > 0 {
        let Some(&kind) = bytes.get(at) else { return Ok(None) };
        let rest = &bytes[at + 1..];
        let inline = at == 0 && kind.is_ascii_alphabetic();
        if !inline && !b"+-:_#,($!=*~>%|".contains(&kind) {
            return Err(NotResp);
        }
        let Some(line) = rest.windows(2).take(LONGEST_LINE).position(|two| two == b"\r\n") else {
            return if rest.len() > LONGEST_LINE { Err(NotResp) } else { Ok(None) };
        };
        let number = || std::str::from_utf8(&rest[..line]).ok()?.parse::<i64>().ok();
        let count = || number().map(|number| usize::try_from(number).unwrap_or(0)).ok_or(NotResp);
        at += 1 + line + 2;
        missing -= 1;
        match kind {
            b'$' | b'!' | b'=' if number() == Some(-1) => {}
            b'$' | b'!' | b'=' => at += count()? + 2,
            b'*' | b'~' | b'>' => missing += count()?,
            b'%' => missing += 2 * count()?,
            // What an attribute is said of follows it.
            b'|' => missing += 2 * count()? + 1,
            _ => {}
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// The words of a command that is whole.
pub(super) fn words(command: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut rest, inline) = (command, command.first() != Some(&b'*'));
    if !inline {
        rest = line(rest).1;
    }
    std::iter::from_fn(move || {
        if inline {
            let from = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
            let until =
                rest[from..].iter().position(u8::is_ascii_whitespace).map_or(rest.len(), |length| from + length);
            let word = &rest[from..until];
            rest = &rest[until..];
            return Some(word);
        }
        let (head, after) = line(rest);
        let length: usize = std::str::from_utf8(head.strip_prefix(b"$")?).ok()?.parse().ok()?;
        let word = after.get(..length)?;
        rest = after.get(length + 2..)?;
        Some(word)
    })
}

fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 2..).unwrap_or_default())
}

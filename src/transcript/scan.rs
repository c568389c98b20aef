//! Numbers in a text that differ from run to run: times, pids, ports.

/// What to replace.
#[derive(Debug, Clone, Copy)]
pub(super) struct What<'k> {
    pub(super) times: bool,
    pub(super) pids: bool,
    pub(super) ports: bool,
    /// Pids that are replaced wherever they stand alone.
    pub(super) known: &'k [u32],
}

/// From how many digits on a pid is known without the word: `7` means too much.
const ALONE: usize = 3;

/// How much may stand between a word and its number.
const BETWEEN: usize = 3;

/// The text with placeholders.
pub(super) fn numbers(text: &str, what: What<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        // Between digits there is always the boundary of a character.
        let next = text[at..].find(|c: char| c.is_ascii_digit()).map_or(text.len(), |offset| at + offset);
        out.push_str(&text[at..next]);
        at = next;
        if at == text.len() {
            break;
        }
        let (before, rest) = text.split_at(at);
        let (placeholder, length) = recognize(before, rest, what).unwrap_or_else(|| {
            let length = token(rest);
            (&rest[..length], length)
        });
        out.push_str(placeholder);
        at += length;
    }
    out
}

/// What this number is, and how much of the text belongs to it.
fn recognize(before: &str, rest: &str, what: What<'_>) -> Option<(&'static str, usize)> {
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let digits = run(rest);
    let whole = ends_at(rest, digits);
    if what.times {
        // Not in the middle of something longer.
        let loose = !before.ends_with([':', '.', '-']);
        let ends = |length: &usize| !rest[*length..].starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let moment = date(rest).filter(ends).or_else(|| clock(rest).filter(ends));
        if let Some(length) = moment.filter(|_| loose) {
            return Some(("[TIME]", length));
        }
    }
    if what.ports && whole && (after_host(before) || after_word(before, "port")) {
        return Some(("[PORT]", digits));
    }
    if what.pids && whole && after_word(before, "pid") {
        return Some(("[PID]", digits));
    }
    if what.times {
        if let Some(length) = duration(rest).filter(|_| !before.ends_with('.')) {
            return Some(("[TIME]", length));
        }
    }
    let known = || rest[..digits].parse().is_ok_and(|pid| what.known.contains(&pid));
    let alone = digits >= ALONE && whole && !rest.starts_with('0') && !in_decimals(before);
    (what.pids && alone && known()).then_some(("[PID]", digits))
}

/// Digits, and whatever hangs together with them: what is not a number alone is copied as a whole.
fn token(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

/// How many digits it begins with.
fn run(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Does the number end here? A decimal point goes on.
fn ends_at(rest: &str, at: usize) -> bool {
    let after = &rest[at..];
    let decimals = after.strip_prefix('.').is_some_and(|a| a.starts_with(|c: char| c.is_ascii_digit()));
    !decimals && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Do these digits come after a decimal point?
fn in_decimals(before: &str) -> bool {
    before.strip_suffix('.').is_some_and(|b| b.ends_with(|c: char| c.is_ascii_digit()))
}

/// Does this word come before the number? With `p` in front, `pid` is the parent's.
fn after_word(before: &str, word: &str) -> bool {
    let separator = |c: char| matches!(c, ' ' | '=' | ':' | '#' | '(' | '"' | '\'');
    let head = before.trim_end_matches(separator);
    let between = before.len() - head.len();
    if !(1..=BETWEEN).contains(&between) {
        return false;
    }
    let Some(start) = head.len().checked_sub(word.len()).filter(|s| head.is_char_boundary(*s)) else { return false };
    if !head[start..].eq_ignore_ascii_case(word) {
        return false;
    }
    let lead = head[..start].strip_suffix(['p', 'P']).filter(|_| word == "pid").unwrap_or(&head[..start]);
    !lead.ends_with(char::is_alphanumeric)
}

/// Is it the port of an address of this machine?
fn after_host(before: &str) -> bool {
    let Some(host) = before.strip_suffix(':') else { return false };
    let named = ["localhost", "[::1]", "[::]", "0.0.0.0"];
    let lone = |rest: &str| !rest.ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '-');
    if named.iter().any(|name| host.strip_suffix(name).is_some_and(lone)) {
        return true;
    }
    let start = host.rfind(|c: char| !c.is_ascii_digit() && c != '.').map_or(0, |at| at + char_length(host, at));
    let parts: Vec<&str> = host[start..].split('.').collect();
    lone(&host[..start]) && parts.len() == 4 && parts[0] == "127" && parts.iter().all(|p| p.parse::<u8>().is_ok())
}

fn char_length(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// The length of digits in a pattern, in which `0` stands for a digit and everything else for itself.
fn shaped(text: &str, pattern: &str) -> Option<usize> {
    let fits = |(a, b): (u8, u8)| if b == b'0' { a.is_ascii_digit() } else { a == b };
    (text.len() >= pattern.len() && text.bytes().zip(pattern.bytes()).all(fits)).then_some(pattern.len())
}

/// `15:04:05`, and decimals.
fn clock(text: &str) -> Option<usize> {
    let mut length = shaped(text, "00:00:00")?;
    if let Some(decimals) = text[length..].strip_prefix(['.', ',']).map(run).filter(|n| *n > 0) {
        length += 1 + decimals;
    }
    Some(length)
}

/// `2026-11-24T15:04:05.123Z`, also with a space, and with a distance from Greenwich.
fn date(text: &str) -> Option<usize> {
    let day = shaped(text, "0000-00-00")?;
    let time = text[day..].strip_prefix(['T', 't', ' '])?;
    let mut length = day + 1 + clock(time)?;
    let zone = &text[length..];
    if zone.starts_with(['Z', 'z']) {
        length += 1;
    } else if zone.starts_with(['+', '-']) {
        length += shaped(&zone[1..], "00:00").or_else(|| shaped(&zone[1..], "0000")).map_or(0, |n| n + 1);
    }
    Some(length)
}

/// `12ms`, `12.5 ms`, `0.5 s`, `3s`; not `3 s`, which may be many things.
fn duration(text: &str) -> Option<usize> {
    let mut number = run(text);
    let decimals = text[number..].strip_prefix('.').map(run).filter(|n| *n > 0);
    number += decimals.map_or(0, |n| n + 1);
    let space = usize::from(text[number..].starts_with(' '));
    let unit = &text[number + space..];
    let length = ["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s"].iter().find_map(|name| {
        let after = unit.strip_prefix(name)?;
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let clear = *name != "s" || space == 0 || decimals.is_some();
        (ends && clear).then_some(name.len())
    })?;
    Some(number + space + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: &str) {
        assert_eq!(numbers(text, What { times: true, pids: true, ports: true, known: &[4711, 42] }), wanted);
    }

    #[test]
    fn times() {
        check("at 2026-11-24T15:04:05.123Z it", "at [TIME] it");
        check("[2026-11-24 15:04:05,123] x", "[[TIME]] x");
        check("2026-11-24T15:04:05+01:00 x", "[TIME] x");
        check("15:04:05 GMT", "[TIME] GMT");
        check("took 12.5 ms, 3s, 0.5 s, 7\u{b5}s", "took [TIME], [TIME], [TIME], [TIME]");
        for other in ["2026-11-24", "1:2", "00:11:22:33:44:55", "3 s", "12 msgs", "12.5", "v1.2s3", "3st", "x3ms"] {
            check(other, other);
        }
    }

    #[test]
    fn pids() {
        check(
            "pid 7, PID=8 (pid: 9) {\"pid\":10} ppid 1",
            "pid [PID], PID=[PID] (pid: [PID]) {\"pid\":[PID]} ppid [PID]",
        );
        check("postgres[4711]: /proc/4711/fd 4711.", "postgres[[PID]]: /proc/[PID]/fd [PID].");
        for other in ["rapid 7", "42", "4711.5", "3.4711", "x4711", "4711x", "04711", "pid  -  7", "pids 7"] {
            check(other, other);
        }
    }

    #[test]
    fn ports() {
        check("http://127.0.0.1:8080/x 127.1.2.3:1", "http://127.0.0.1:[PORT]/x 127.1.2.3:[PORT]");
        check(
            "localhost:80, [::1]:81, [::]:82, 0.0.0.0:83.",
            "localhost:[PORT], [::1]:[PORT], [::]:[PORT], 0.0.0.0:[PORT].",
        );
        check("on port 40123; port=1", "on port [PORT]; port=[PORT]");
        for other in ["10.0.0.1:80", "1127.0.0.1:80", "example.org:80", "mylocalhost:80", "127.0.0.1", "report 7"] {
            check(other, other);
        }
    }
}

//! Which sockets of a network namespace are waiting for somebody, and under which address (proc_pid_net(5)).

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the tables call a socket that waits: `TCP_LISTEN` for TCP, and for UDP, which knows no such thing, one that is
/// bound and connected to nobody (`TCP_CLOSE`).
const WAITING: [(&str, &str); 4] = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];

/// `__SO_ACCEPTCON` in the flags of a unix socket.
const LISTENS: u32 = 1 << 16;

/// The sockets that wait, by their inodes: `tcp 127.0.0.1:8080`, `unix /tmp/x.sock`, `unix @abstract`.
pub(crate) fn waiting(pid: i32) -> HashMap<u64, String> {
    let read = |table: &str| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let mut found = HashMap::new();
    for (table, state) in WAITING {
        let protocol = &table[..3];
        let text = read(table);
        found.extend(text.lines().skip(1).filter_map(|l| inet(l, state)).map(|(i, a)| (i, format!("{protocol} {a}"))));
    }
    found.extend(read("unix").lines().skip(1).filter_map(unix).map(|(inode, path)| (inode, format!("unix {path}"))));
    found
}

/// The network namespace of a process: those that have the same see the same tables.
pub(crate) fn namespace(pid: i32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// `socket:[4711]`
pub(crate) fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn inet(line: &str, state: &str) -> Option<(u64, SocketAddr)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != state {
        return None;
    }
    let local = address(fields.get(1)?).filter(|a| a.port() != 0)?;
    Some((fields.get(9)?.parse().ok()?, local))
}

/// `0100007F:1F90`: words of 32 bits as they lie in memory, and a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Vec<u32> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn unix(line: &str) -> Option<(u64, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let flags = fields.nth(3)?;
    let inode = fields.nth(2)?;
    let listens = u32::from_str_radix(flags, 16).ok()? & LISTENS != 0;
    // A path may hold spaces. One without a name can be reached by nobody new.
    let path = line.split_once(inode)?.1.trim_start();
    (listens && !path.is_empty()).then(|| Some((inode.parse().ok()?, path)))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    /// Each kind, and for each a socket that does not wait for anybody.
    #[test]
    fn who_waits_is_listed_and_who_is_connected_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("with space");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let talking = UdpSocket::bind("127.0.0.1:0").unwrap();
        talking.connect(udp.local_addr().unwrap()).unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let found = waiting(super::super::process::own_pid());
        let number = |fd: i32| inode(fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().to_str().unwrap()).unwrap();
        let of = |fd: &dyn std::os::fd::AsRawFd| found.get(&number(fd.as_raw_fd())).cloned();
        assert_eq!(of(&tcp), Some(format!("tcp {}", tcp.local_addr().unwrap())));
        assert_eq!(of(&udp), Some(format!("udp {}", udp.local_addr().unwrap())));
        assert_eq!(of(&unix), Some(format!("unix {}", path.display())));
        assert_eq!((of(&connected), of(&talking), of(&stream)), (None, None, None));
        if let Ok(tcp6) = TcpListener::bind("[::1]:0") {
            let found = waiting(super::super::process::own_pid());
            let fd = std::os::fd::AsRawFd::as_raw_fd(&tcp6);
            assert_eq!(found.get(&number(fd)), Some(&format!("tcp {}", tcp6.local_addr().unwrap())));
        }
    }

    #[test]
    fn garbage_is_none_and_no_panic() {
        for text in ["", ":", "0100007F", "zz:1", "0100007F:zz", "0100007F0100007F:1", "é00007F:1F90"] {
            assert_eq!(address(text), None, "{text}");
        }
        for line in ["", "0: a b", "x: 0 0 zz 0 0 1 /x", "x: 2 0 00010000 1 1 7"] {
            assert_eq!((inet(line, "0A"), unix(line)), (None, None), "{line}");
        }
        assert_eq!(unix("0: 2 0 00010000 1 1 7 @a b"), Some((7, "@a b")));
        assert_eq!(inode("pipe:[1]"), None);
    }
}

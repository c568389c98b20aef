//! Who listens on a TCP port, asked of the kernel without connecting: a server that counts its visitors is not disturbed.
//!
//! `/proc/PID/net/tcp` lists the sockets of a network namespace with their inodes (proc_pid_net(5)), `/proc/PID/fd` says who
//! holds which.

use std::collections::HashSet;
use std::fs;

use super::procfs;

/// `TCP_LISTEN` of the kernel's `include/net/tcp_states.h`, as the table shows it.
const LISTEN: &str = "0A";

/// What is known about a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listener {
    Nobody,
    /// One of the processes below the root.
    Ours,
    /// Somebody else: the inodes of the sockets.
    Stranger(HashSet<u64>),
}

/// Who listens on this port, in the network namespace of `helper`, or, if it has ended, in that of what it has left;
/// processes at or below `root` are ours.
pub(crate) fn on_port(port: u16, helper: i32, root: i32) -> Listener {
    let ours: Vec<i32> = procfs::descendants(root).iter().map(|s| s.pid).chain([root]).collect();
    let tables = |pid: &i32| {
        let read = |table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok();
        // Where IPv6 is switched off, there is one table.
        read("tcp").map(|tcp| [tcp, read("tcp6").unwrap_or_default()])
    };
    let tables = [helper].iter().chain(&ours).find_map(tables).unwrap_or_default();
    let inodes: HashSet<u64> = tables.iter().flat_map(|table| inodes_on(table, port)).collect();
    if inodes.is_empty() {
        return Listener::Nobody;
    }
    if ours.iter().any(|pid| holds(*pid, &inodes)) { Listener::Ours } else { Listener::Stranger(inodes) }
}

/// Who holds one of these sockets, if we may see that: the pid and the command line. Looks at every process.
pub(crate) fn holder(inodes: &HashSet<u64>) -> Option<(i32, String)> {
    let pid = procfs::all().into_iter().map(|s| s.pid).find(|pid| holds(*pid, inodes))?;
    Some((pid, procfs::command_line(pid, std::time::Instant::now())))
}

fn holds(pid: i32, inodes: &HashSet<u64>) -> bool {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| socket_inode(fs::read_link(fd.path()).ok()?.to_str()?)).any(|inode| inodes.contains(&inode))
}

/// The inodes of the sockets that listen on this port.
fn inodes_on(table: &str, port: u16) -> Vec<u64> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let listens = *fields.get(3)? == LISTEN && u16::from_str_radix(local, 16).ok()? == port;
        listens.then(|| fields.get(9)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

/// `socket:[4711]`
fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
                     1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n";
        assert_eq!(inodes_on(table, 8080), [4711]);
        assert_eq!(inodes_on(table, 80), [0; 0]);
        assert_eq!(socket_inode("socket:[12]"), Some(12));
        assert_eq!(socket_inode("pipe:[12]"), None);
    }

    #[test]
    fn a_listener_is_ours_or_a_stranger_or_nobody() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let me = super::super::process::own_pid();
        assert_eq!(on_port(port, me, me), Listener::Ours);
        // Seen from a process that is not above us.
        let mut other = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let seen = on_port(port, me, other.id() as i32);
        other.kill().unwrap();
        other.wait().unwrap();
        let Listener::Stranger(inodes) = seen else { panic!("{seen:?}") };
        assert_eq!(holder(&inodes).map(|(pid, _)| pid), Some(me));
        drop(listener);
        assert_eq!(on_port(port, me, me), Listener::Nobody);
    }
}

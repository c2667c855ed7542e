//! Which worker a datagram is for, by the first byte of its connection id: asked in the kernel by a
//! socket filter, and here of what comes to the wrong worker all the same.

use std::{io, os::fd::RawFd};

/// Where the id of a packet with a short header begins, and of one with a long header.
const SHORT: u32 = 1;
const LONG: u32 = 6;
/// The bit that tells long headers.
const FORM: u8 = 0x80;

/// The worker that a datagram is for. `None` if its id names none: an id that a client chose for its
/// first packets stays where the kernel's hash has put it.
pub(super) fn worker_of(datagram: &[u8], workers: usize) -> Option<usize> {
    let first = datagram.first()?;
    let at = if first & FORM == 0 { SHORT } else { LONG };
    let worker = usize::from(*datagram.get(at as usize)?);
    (worker < workers).then_some(worker)
}

/// Lets the kernel choose among the sockets of this one's group by the same rule. The group's order
/// is the order in which its sockets were bound; a number that none has is chosen by hash.
pub(super) fn attach(fd: RawFd) -> io::Result<()> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, offset);
    let mut program = [
        load(0),
        libc::sock_filter {
            code: code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K),
            jt: 2,
            jf: 0,
            k: u32::from(FORM),
        },
        load(SHORT),
        statement(libc::BPF_RET | libc::BPF_A, 0),
        load(LONG),
        statement(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_mut_ptr(),
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or_default();
    // SAFETY: the system reads `filter` and the instructions that it points to, which live on.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const fn statement(operation: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code(operation), jt: 0, jf: 0, k }
}

#[expect(clippy::cast_possible_truncation, reason = "instructions are 16 bits wide")]
const fn code(operation: u32) -> u16 {
    operation as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_of_the_id_names_the_worker() {
        let mut short = [0x40; 40];
        short[1] = 2;
        assert_eq!(worker_of(&short, 3), Some(2));
        assert_eq!(worker_of(&short, 2), None, "no such worker");
        let mut long = [0xc0; 40];
        long[6] = 1;
        assert_eq!(worker_of(&long, 3), Some(1));
        for length in 0..2 {
            assert_eq!(worker_of(&short[..length], 3), None);
        }
        assert_eq!(worker_of(&long[..6], 3), None);
    }
}

//! Sending: trains of datagrams to one peer each, up to 64 trains per system call.
//!
//! A train costs the kernel little more than one datagram (UDP GSO), and reaching another peer
//! costs about the same whatever the train's length; so a connection's packets go as one train,
//! and many connections' trains as one call.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
    ptr,
};

use super::{address::RawAddress, control::Control, socket::Socket};

/// Trains per system call.
const MESSAGES: usize = 64;
/// Datagrams per train that the kernel accepts.
const SEGMENTS_MAX: usize = 64;
/// Bytes per train that the kernel accepts.
const TRAIN_MAX: usize = 65_507;
/// Memory for trains: it should stay in the cache that the packets were sealed in.
const ARENA: usize = 1 << 20;
/// A datagram shorter than this is sent alone: those that follow it would be no longer.
const SEGMENT_MIN: usize = 1_000;

/// Datagrams in a row to one peer, all but the last of the same length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::io) struct Train {
    /// Where in the arena the first begins.
    start: usize,
    /// Bytes of all.
    length: usize,
    /// Bytes of each but the last.
    segment: usize,
    /// The peer.
    to: SocketAddr,
    /// The address to send from, where the system would have to choose one.
    from: Option<IpAddr>,
}

impl Train {
    fn segments(&self) -> usize {
        self.length.div_ceil(self.segment)
    }
}

/// How building ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::io) enum Built {
    /// There is nothing more to be sent now.
    Done,
    /// There may be more, but the room or what was allowed is used up.
    More,
}

/// What one datagram's writer says: its length and way, or that there is none.
pub(in crate::io) type Written = Option<(usize, SocketAddr, Option<IpAddr>)>;

/// Fills `arena` from `used` on with datagrams that `write` writes, and appends their trains.
///
/// At most `bytes_max` are written, but at least one datagram. `write` is given room for a
/// datagram of at most `datagram_max`.
pub(in crate::io) fn build_trains(
    arena: &mut [u8],
    used: &mut usize,
    trains: &mut Vec<Train>,
    limits: Limits,
    mut write: impl FnMut(&mut [u8]) -> Written,
) -> Built {
    let begin = *used;
    let mut open: Option<Train> = None;
    let built = loop {
        let room = open.map_or(limits.datagram_max, |train: Train| train.segment);
        if arena.len() < *used + limits.datagram_max || limits.bytes_max <= *used - begin {
            break Built::More;
        }
        let Some((length, to, from)) = write(&mut arena[*used..][..room]) else {
            break Built::Done;
        };
        let start = *used;
        *used += length;
        match &mut open {
            Some(train) if (train.to, train.from) == (to, from) => train.length += length,
            _ => {
                trains.extend(open.take());
                open = Some(Train { start, length, segment: length, to, from });
            }
        }
        // A shorter datagram ends its train.
        let full = open.is_some_and(|train| {
            length < train.segment
                || train.segment < SEGMENT_MIN
                || limits.segments_max <= train.segments()
                || TRAIN_MAX < train.length + train.segment
        });
        if full {
            trains.extend(open.take());
        }
    };
    trains.extend(open);
    built
}

/// What bounds the trains of one connection in one turn.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct Limits {
    /// Bytes of the longest datagram.
    pub(in crate::io) datagram_max: usize,
    /// Bytes of all.
    pub(in crate::io) bytes_max: usize,
    /// Datagrams per train.
    pub(in crate::io) segments_max: usize,
}

/// What became of the trains.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::io) struct Flushed {
    /// System calls.
    pub(in crate::io) calls: u64,
    /// Datagrams handed over.
    pub(in crate::io) datagrams: u64,
    /// Bytes handed over.
    pub(in crate::io) bytes: u64,
    /// Datagrams that the system refused for good, which are lost.
    pub(in crate::io) refused: u64,
    /// Why the rest must wait, if it must.
    pub(in crate::io) blocked: Option<Blocked>,
}

/// Why datagrams must wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::io) enum Blocked {
    /// The socket is full: it becomes writable.
    Socket,
    /// The system is out of memory: nothing will tell when it is not.
    Memory,
}

/// Trains on their way out of one socket.
pub(in crate::io) struct SendBatch {
    arena: Vec<u8>,
    used: usize,
    trains: Vec<Train>,
    /// Trains that have left.
    sent: usize,
    addresses: Vec<RawAddress>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the raw pointers in `vectors` and `headers` are written before each system call, and
// nothing reads them after it; all that they point to moves with the batch.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// An empty batch.
    pub(in crate::io) fn new() -> Self {
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: integers and pointers, for which zero is a value.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Self {
            arena: vec![0; ARENA],
            used: 0,
            trains: Vec::with_capacity(MESSAGES),
            sent: 0,
            addresses: vec![RawAddress::zeroed(); MESSAGES],
            controls: vec![Control::EMPTY; MESSAGES],
            vectors: vec![vector; MESSAGES],
            headers: vec![header; MESSAGES],
        }
    }

    /// Whether nothing waits.
    pub(in crate::io) const fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Whether it should be flushed before more is built.
    pub(in crate::io) fn is_full(&self) -> bool {
        MESSAGES <= self.trains.len() || self.arena.len() - self.used < TRAIN_MAX
    }

    /// Appends what `write` writes.
    pub(in crate::io) fn build(
        &mut self,
        limits: Limits,
        gso: bool,
        write: impl FnMut(&mut [u8]) -> Written,
    ) -> Built {
        let segments_max = if gso { limits.segments_max.min(SEGMENTS_MAX) } else { 1 };
        let limits = Limits { segments_max, ..limits };
        build_trains(&mut self.arena, &mut self.used, &mut self.trains, limits, write)
    }

    /// Appends one datagram, if there is room; says whether there was.
    pub(in crate::io) fn push(
        &mut self,
        to: SocketAddr,
        from: Option<IpAddr>,
        datagram: &[u8],
    ) -> bool {
        let start = self.used;
        let Some(room) = self.arena.get_mut(start..start + datagram.len()) else { return false };
        room.copy_from_slice(datagram);
        self.used += datagram.len();
        let length = datagram.len();
        self.trains.push(Train { start, length, segment: length.max(1), to, from });
        true
    }

    /// Sends as much as the system takes.
    pub(in crate::io) fn flush(&mut self, socket: &mut Socket) -> Flushed {
        let mut flushed = Flushed::default();
        while self.sent < self.trains.len() {
            let count = self.prepare();
            flushed.calls += 1;
            match self.send(socket.fd(), count) {
                Ok(sent) => {
                    for train in &self.trains[self.sent..self.sent + sent] {
                        flushed.datagrams += train.segments() as u64;
                        flushed.bytes += train.length as u64;
                    }
                    self.sent += sent;
                }
                Err(error) => match Refusal::of(&error) {
                    Refusal::Again => {}
                    Refusal::Wait(blocked) => {
                        flushed.blocked = Some(blocked);
                        return flushed;
                    }
                    Refusal::Train if 1 < self.trains[self.sent].segments() => {
                        self.cut(socket, &error);
                    }
                    Refusal::Train | Refusal::Datagram => {
                        flushed.refused += self.trains[self.sent].segments() as u64;
                        self.sent += 1;
                    }
                },
            }
        }
        self.trains.clear();
        self.sent = 0;
        self.used = 0;
        flushed
    }

    /// Makes single datagrams of all trains: the system cannot cut them.
    fn cut(&mut self, socket: &mut Socket, error: &io::Error) {
        if socket.gso() {
            tracing::info!(address = %socket.local(), %error, "datagrams are sent one by one");
            socket.give_up_gso();
        }
        let waiting = self.trains.split_off(self.sent);
        for train in waiting {
            for offset in (0..train.length).step_by(train.segment) {
                let start = train.start + offset;
                let length = train.segment.min(train.length - offset);
                self.trains.push(Train { start, length, segment: length, ..train });
            }
        }
    }

    /// Points headers to the next trains; says to how many.
    fn prepare(&mut self) -> usize {
        let trains = &self.trains[self.sent..];
        let count = trains.len().min(MESSAGES);
        let parts = trains[..count]
            .iter()
            .zip(&mut self.addresses)
            .zip(&mut self.controls)
            .zip(&mut self.vectors)
            .zip(&mut self.headers);
        for ((((train, address), control), vector), header) in parts {
            let bytes = &mut self.arena[train.start..train.start + train.length];
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = bytes.len();
            let (raw, length) = RawAddress::new(train.to);
            *address = raw;
            let header = &mut header.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_mut(address).cast();
            header.msg_namelen = length;
            header.msg_flags = 0;
            let several = train.segment < train.length;
            let segment = several.then(|| u16::try_from(train.segment).unwrap_or(u16::MAX));
            control.write(header, segment, train.from);
        }
        count
    }

    fn send(&mut self, fd: RawFd, count: usize) -> io::Result<usize> {
        let length = libc::c_uint::try_from(count.min(MESSAGES)).unwrap_or_default();
        let headers = self.headers.as_mut_ptr();
        // SAFETY: `prepare` pointed the first `count` headers to bytes, an address and control
        // messages of this batch, each with its true length, and nothing moved since.
        let sent = unsafe { libc::sendmmsg(fd, headers, length, libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// What an error of the first train in a call means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refusal {
    /// Try at once again.
    Again,
    /// Try later.
    Wait(Blocked),
    /// Too much for one train, or not to be cut here; a lone datagram is lost.
    Train,
    /// The datagram is lost; QUIC sends again what was in it.
    Datagram,
}

impl Refusal {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EINTR) => Self::Again,
            Some(libc::EAGAIN) => Self::Wait(Blocked::Socket),
            Some(libc::ENOBUFS | libc::ENOMEM) => Self::Wait(Blocked::Memory),
            Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE) => Self::Train,
            _ => Self::Datagram,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "192.0.2.1:4443";

    struct Case {
        trains: Vec<Vec<usize>>,
        built: Built,
    }

    /// Builds from datagrams that want to be this long, on 1 or 2 peers.
    fn build(wanted: &[(usize, u16)], limits: Limits) -> Case {
        let mut arena = vec![0; 1 << 20];
        let (mut used, mut trains) = (0, Vec::new());
        let mut datagrams = wanted.iter();
        let built = build_trains(&mut arena, &mut used, &mut trains, limits, |room| {
            let &(length, port) = datagrams.next()?;
            let mut to: SocketAddr = PEER.parse().unwrap();
            to.set_port(port);
            Some((length.min(room.len()), to, None))
        });
        let trains = trains
            .iter()
            .map(|train| {
                (0..train.length)
                    .step_by(train.segment)
                    .map(|offset| train.segment.min(train.length - offset))
                    .collect()
            })
            .collect();
        Case { trains, built }
    }

    const LIMITS: Limits = Limits { datagram_max: 1_452, bytes_max: 256 << 10, segments_max: 64 };

    #[track_caller]
    fn check(wanted: &[(usize, u16)], limits: Limits, trains: &[&[usize]], built: Built) {
        let case = build(wanted, limits);
        assert_eq!(case.trains, trains);
        assert_eq!(case.built, built);
    }

    #[test]
    fn equal_datagrams_make_one_train_with_a_short_tail() {
        check(&[(1_350, 1); 3], LIMITS, &[&[1_350, 1_350, 1_350]], Built::Done);
        let wanted = [(1_350, 1), (1_350, 1), (80, 1), (1_350, 1)];
        check(&wanted, LIMITS, &[&[1_350, 1_350, 80], &[1_350]], Built::Done);
    }

    #[test]
    fn a_short_first_datagram_goes_alone() {
        check(&[(40, 1), (1_350, 1)], LIMITS, &[&[40], &[1_350]], Built::Done);
    }

    #[test]
    fn a_longer_datagram_is_never_asked_for_within_a_train() {
        check(&[(1_200, 1), (1_452, 1)], LIMITS, &[&[1_200, 1_200]], Built::Done);
    }

    #[test]
    fn another_way_begins_another_train() {
        check(
            &[(1_350, 1), (1_350, 2), (1_350, 2)],
            LIMITS,
            &[&[1_350], &[1_350, 1_350]],
            Built::Done,
        );
    }

    #[test]
    fn trains_keep_to_the_kernels_limits() {
        let case = build(&[(1_200, 1); 130], LIMITS);
        assert!(case.trains.iter().all(|train| train.len() <= 54));
        assert_eq!(case.trains.iter().map(Vec::len).sum::<usize>(), 130);
        let case = build(&[(1_000, 1); 130], LIMITS);
        assert_eq!(case.trains[0].len(), 64);
    }

    #[test]
    fn one_connection_has_its_share() {
        let limits = Limits { bytes_max: 3_000, ..LIMITS };
        check(&[(1_350, 1); 9], limits, &[&[1_350; 3]], Built::More);
        let limits = Limits { segments_max: 1, ..LIMITS };
        check(&[(1_350, 1); 2], limits, &[&[1_350], &[1_350]], Built::Done);
    }

    #[test]
    fn trains_arrive_as_datagrams_with_and_without_gso() {
        for gso in [true, false] {
            let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            let to = receiver.local_addr().unwrap();
            let mut socket = Socket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
            let mut batch = SendBatch::new();
            let mut lengths = [1_300, 1_300, 1_300, 700, 20, 1_300].into_iter();
            let built = batch.build(LIMITS, gso && socket.gso(), |room| {
                let length = lengths.next()?;
                room[..length].fill(7);
                Some((length, to, None))
            });
            assert_eq!(built, Built::Done);
            let flushed = batch.flush(&mut socket);
            assert_eq!((flushed.datagrams, flushed.refused, flushed.blocked), (6, 0, None));
            assert!(batch.is_empty());
            let mut buffer = [0; 2_000];
            for length in [1_300, 1_300, 1_300, 700, 20, 1_300] {
                assert_eq!(receiver.recv(&mut buffer).unwrap(), length);
            }
        }
    }

    #[test]
    fn errors_are_waited_for_or_cost_a_datagram() {
        let refusal = |code| Refusal::of(&io::Error::from_raw_os_error(code));
        assert_eq!(refusal(libc::EINTR), Refusal::Again);
        assert_eq!(refusal(libc::EAGAIN), Refusal::Wait(Blocked::Socket));
        assert_eq!(refusal(libc::ENOBUFS), Refusal::Wait(Blocked::Memory));
        for code in [libc::EIO, libc::EMSGSIZE, libc::EINVAL] {
            assert_eq!(refusal(code), Refusal::Train, "{code}");
        }
        for code in [libc::ECONNREFUSED, libc::EPERM, libc::ENETUNREACH, libc::EHOSTUNREACH] {
            assert_eq!(refusal(code), Refusal::Datagram, "{code}");
        }
    }

    #[test]
    fn trains_that_the_system_cannot_cut_are_cut_here() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let to = receiver.local_addr().unwrap();
        let mut socket = Socket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let mut batch = SendBatch::new();
        let mut lengths = [1_100, 1_100, 300].into_iter();
        batch.build(LIMITS, true, |_| Some((lengths.next()?, to, None)));
        batch.push(to, None, &[9; 50]);
        batch.cut(&mut socket, &io::Error::from_raw_os_error(libc::EIO));
        assert!(!socket.gso());
        assert_eq!(batch.flush(&mut socket).datagrams, 4);
        let mut buffer = [0; 2_000];
        for length in [1_100, 1_100, 300, 50] {
            assert_eq!(receiver.recv(&mut buffer).unwrap(), length);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_dropped_and_the_rest_goes() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let mut socket = Socket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let mut batch = SendBatch::new();
        batch.push(to, None, &[1; 100]);
        // Nothing is routed from loopback to there.
        batch.push("[2001:db8::1]:9".parse().unwrap(), None, &[2; 100]);
        batch.push(to, None, &[3; 100]);
        let flushed = batch.flush(&mut socket);
        assert_eq!((flushed.datagrams, flushed.refused, flushed.blocked), (2, 1, None));
    }
}

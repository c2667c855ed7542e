//! A path between a client and a relay on which a seed decides what befalls each datagram.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    runtime::Runtime,
    select,
    task::AbortHandle,
    time::{self, Instant},
};

use crate::sim::random::Random;

/// What befalls datagrams. The default is a path without faults.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Datagrams of a thousand at which a burst of loss begins.
    pub loss_per_thousand: u64,
    /// The longest burst.
    pub burst_max: u64,
    /// Datagrams of a thousand that come twice.
    pub duplicated_per_thousand: u64,
    /// Datagrams of a thousand of which one byte changes.
    pub corrupted_per_thousand: u64,
    /// Datagrams of a thousand that are held for as long again as the delay and the jitter.
    pub reordered_per_thousand: u64,
    /// How long each datagram takes.
    pub delay: Duration,
    /// How much longer it may take.
    pub jitter: Duration,
    /// From when to when after its beginning, again and again, nothing passes.
    pub hole: Option<Hole>,
    /// The longest datagram that passes.
    pub length_max: usize,
    /// How often the relay sees the client at another port.
    pub rebind_every: Option<Duration>,
}

/// A time in which nothing passes, once in each period.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    /// From the beginning of one to the beginning of the next.
    pub every: Duration,
    /// How long it lasts, at the end of its period.
    pub lasts: Duration,
}

impl Weather {
    /// A path without faults.
    pub const CALM: Self = Self {
        loss_per_thousand: 0,
        burst_max: 1,
        duplicated_per_thousand: 0,
        corrupted_per_thousand: 0,
        reordered_per_thousand: 0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        hole: None,
        length_max: usize::MAX,
        rebind_every: None,
    };
    /// A path by which nothing passes any more.
    pub const GONE: Self = Self { length_max: 0, ..Self::CALM };
}

impl Default for Weather {
    fn default() -> Self {
        Self::CALM
    }
}

/// What befell the datagrams of one path.
#[derive(Debug, Default)]
pub struct Befallen {
    /// Those that came.
    pub passed: AtomicU64,
    /// Those that never came.
    pub lost: AtomicU64,
    /// Those that came twice.
    pub duplicated: AtomicU64,
    /// Those that came changed.
    pub corrupted: AtomicU64,
    /// Those that were held back.
    pub reordered: AtomicU64,
    /// Times that the client got another port.
    pub rebound: AtomicU64,
}

/// One path. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    befallen: Arc<Befallen>,
    task: AbortHandle,
}

impl Proxy {
    /// A path to `relay` on `runtime`.
    ///
    /// # Errors
    /// If there is no port.
    pub fn new(
        runtime: &Runtime,
        relay: SocketAddr,
        seed: u64,
        weather: Weather,
    ) -> io::Result<Self> {
        let _entered = runtime.enter();
        let near = runtime.block_on(UdpSocket::bind("127.0.0.1:0"))?;
        let far = runtime.block_on(connected(relay))?;
        let address = near.local_addr()?;
        let weather = Arc::new(Mutex::new(weather));
        let befallen = Arc::new(Befallen::default());
        let path = Path {
            near,
            far,
            relay,
            client: None,
            random: Random::new(seed),
            bursting: [0; 2],
            held: BinaryHeap::new(),
            count: 0,
            weather: Arc::clone(&weather),
            befallen: Arc::clone(&befallen),
            began: Instant::now(),
        };
        let task = runtime.spawn(path.run()).abort_handle();
        Ok(Self { address, weather, befallen, task })
    }

    /// Where the client finds it.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is like this.
    pub fn turn(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What befell datagrams so far.
    pub fn befallen(&self) -> &Befallen {
        &self.befallen
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connected(relay: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(relay).await?;
    Ok(socket)
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Way {
    ToRelay,
    ToClient,
}

/// A datagram on its way: when it is due, its number, where it goes.
type Held = (Instant, u64, Way, Vec<u8>);

struct Path {
    near: UdpSocket,
    far: UdpSocket,
    relay: SocketAddr,
    client: Option<SocketAddr>,
    random: Random,
    /// Datagrams still to be lost, each way.
    bursting: [u64; 2],
    held: BinaryHeap<Reverse<Held>>,
    count: u64,
    weather: Arc<Mutex<Weather>>,
    befallen: Arc<Befallen>,
    began: Instant,
}

/// Longer than any datagram of QUIC.
const LENGTH_MAX: usize = 2_048;

impl Path {
    async fn run(mut self) {
        let (mut near, mut far) = ([0; LENGTH_MAX], [0; LENGTH_MAX]);
        let mut rebind_at = None;
        loop {
            let weather = self.weather();
            let now = Instant::now();
            let rebind = match weather.rebind_every {
                Some(every) => *rebind_at.get_or_insert(now + every),
                None => now + Duration::from_secs(3_600),
            };
            let due = self.held.peek().map_or(rebind, |Reverse((due, ..))| rebind.min(*due));
            select! {
                received = self.near.recv_from(&mut near) => {
                    let Ok((length, from)) = received else { continue };
                    self.client = Some(from);
                    self.take(Way::ToRelay, &near[..length]);
                }
                received = self.far.recv(&mut far) => {
                    // Nobody there: the datagram is lost, as it would be further away.
                    let Ok(length) = received else { continue };
                    self.take(Way::ToClient, &far[..length]);
                }
                () = time::sleep_until(due) => {}
            }
            if weather.rebind_every.is_some() && rebind <= Instant::now() {
                rebind_at = None;
                if let Ok(socket) = connected(self.relay).await {
                    self.far = socket;
                    self.befallen.rebound.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.release().await;
        }
    }

    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what befalls a datagram that has come, by what the weather is now.
    fn take(&mut self, way: Way, bytes: &[u8]) {
        let weather = self.weather();
        let bursting = &mut self.bursting[way as usize];
        if *bursting == 0 && self.random.chance(weather.loss_per_thousand) {
            *bursting = self.random.between(1, weather.burst_max.max(1));
        }
        let is_lost = *bursting != 0;
        *bursting = bursting.saturating_sub(1);
        let in_hole = weather.hole.is_some_and(|hole| {
            let since = self.began.elapsed().as_nanos() % hole.every.as_nanos().max(1);
            hole.every.saturating_sub(hole.lasts).as_nanos() <= since
        });
        if is_lost || in_hole || weather.length_max < bytes.len() {
            self.befallen.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut bytes = bytes.to_vec();
        if self.random.chance(weather.corrupted_per_thousand) && !bytes.is_empty() {
            let at = self.random.index(bytes.len());
            bytes[at] ^= 1 << self.random.below(8);
            self.befallen.corrupted.fetch_add(1, Ordering::Relaxed);
        }
        let jitter = u64::try_from(weather.jitter.as_micros()).unwrap_or(u64::MAX);
        let wait =
            |random: &mut Random| weather.delay + Duration::from_micros(random.between(0, jitter));
        let mut delay = wait(&mut self.random);
        if self.random.chance(weather.reordered_per_thousand) {
            delay += wait(&mut self.random) + Duration::from_millis(1);
            self.befallen.reordered.fetch_add(1, Ordering::Relaxed);
        }
        if self.random.chance(weather.duplicated_per_thousand) {
            self.befallen.duplicated.fetch_add(1, Ordering::Relaxed);
            let again = delay + wait(&mut self.random);
            self.hold(again, way, bytes.clone());
        }
        self.hold(delay, way, bytes);
    }

    fn hold(&mut self, delay: Duration, way: Way, bytes: Vec<u8>) {
        self.count += 1;
        self.held.push(Reverse((Instant::now() + delay, self.count, way, bytes)));
    }

    /// Sends what is due.
    async fn release(&mut self) {
        while let Some(Reverse((due, ..))) = self.held.peek() {
            if Instant::now() < *due {
                return;
            }
            let Some(Reverse((_, _, way, bytes))) = self.held.pop() else { return };
            let sent = match (way, self.client) {
                (Way::ToRelay, _) => self.far.send(&bytes).await,
                (Way::ToClient, Some(client)) => self.near.send_to(&bytes, client).await,
                (Way::ToClient, None) => continue,
            };
            let count = if sent.is_ok() { &self.befallen.passed } else { &self.befallen.lost };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

//! The targets: where each is for now, and how it is spoken to there.

use crate::io::{
    config::Config,
    error::Error,
    follow::Permitted,
    quic,
    target::{Scheme, Target, Url},
    tls,
};

/// All of them, by their index in the configuration.
pub(in crate::io) struct Targets {
    permitted: Permitted,
    each: Vec<Whereabouts>,
}

/// Where one target is.
struct Whereabouts {
    /// By configuration.
    home: Place,
    /// Where it has sent us since.
    moved: Option<Place>,
}

/// A place where a target is. Which certificates are believed depends on the host.
struct Place {
    target: Target,
    quic: quiche::Config,
}

impl Place {
    fn new(target: Target, config: &Config) -> Result<Self, Error> {
        let protocols = match target.url.scheme() {
            Scheme::Moqt => quic::protocols(&config.dial.versions),
            Scheme::Https => vec![quic::HTTP3],
        };
        let quic = quic::config(tls::client(&target)?, &protocols, &config.quic, None)?;
        Ok(Self { target, quic })
    }
}

impl Targets {
    /// Those of `config`, at home.
    pub(in crate::io) fn new(config: &Config) -> Result<Self, Error> {
        let urls = config.targets.iter().map(|target| &target.url);
        let permitted = Permitted::new(&config.dial.goaway_hosts, urls);
        let at_home = |target: &Target| {
            Ok::<_, Error>(Whereabouts { home: Place::new(target.clone(), config)?, moved: None })
        };
        let each = config.targets.iter().map(at_home).collect::<Result<_, _>>()?;
        Ok(Self { permitted, each })
    }

    /// Where they are now.
    pub(in crate::io) fn iter(&self) -> impl Iterator<Item = &Target> {
        self.each.iter().map(|it| &it.moved.as_ref().unwrap_or(&it.home).target)
    }

    /// A target where it is now.
    pub(in crate::io) fn get(&self, target: usize) -> Option<&Target> {
        self.iter().nth(target)
    }

    /// A target where it is now, and what a connection to it is made of.
    pub(super) fn get_mut(&mut self, target: usize) -> Option<(&Target, &mut quiche::Config)> {
        let Whereabouts { home, moved } = self.each.get_mut(target)?;
        let place = moved.as_mut().unwrap_or(home);
        Some((&place.target, &mut place.quic))
    }

    /// The URL that a target may send us to.
    ///
    /// # Errors
    /// Why it may not.
    pub(in crate::io) fn permit(&self, target: usize, uri: &[u8]) -> Result<Url, &'static str> {
        let scheme = self.home(target).ok_or("there is no such target")?.scheme();
        self.permitted.url(uri, scheme)
    }

    /// Where a target is by configuration.
    pub(in crate::io) fn home(&self, target: usize) -> Option<&Url> {
        self.each.get(target).map(|it| &it.home.target.url)
    }

    /// A target is elsewhere from now on.
    ///
    /// # Errors
    /// If nothing could be believed there: it stays where it was.
    pub(in crate::io) fn follow(
        &mut self,
        target: usize,
        url: Url,
        config: &Config,
    ) -> Result<(), Error> {
        if let Some(it) = self.each.get_mut(target) {
            it.moved = Some(Place::new(Target { url, ..it.home.target.clone() }, config)?);
        }
        Ok(())
    }

    /// A target is looked for where it is by configuration.
    pub(in crate::io) fn go_home(&mut self, target: usize) {
        if let Some(it) = self.each.get_mut(target) {
            it.moved = None;
        }
    }
}

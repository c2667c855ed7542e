//! Ctrl-C and SIGTERM end a run, which then reports what it has; a second one ends the program.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether somebody wants the run to end. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    wanted: Arc<AtomicBool>,
}

impl Interrupt {
    /// One that SIGINT and SIGTERM set; whichever comes after that ends the program.
    ///
    /// # Errors
    /// If the system lets nobody hear of signals.
    pub fn on_signals() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            let wanted = &interrupt.wanted;
            // Registered first, so that the signal that sets it does not end the program itself.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(wanted),
            )?;
            signal_hook::flag::register(signal, Arc::clone(wanted))?;
        }
        Ok(interrupt)
    }

    /// Wants the run to end. Says whether that was wanted already.
    pub fn set(&self) -> bool {
        self.wanted.swap(true, Ordering::SeqCst)
    }

    /// Whether the run is to end.
    pub fn is_set(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }
}

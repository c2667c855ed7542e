//! The live view: the whole terminal, redrawn while the run goes on.

mod frame;

use std::{
    io::{self, BufWriter, Stderr},
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use crate::{
    interrupt::Interrupt,
    progress::{Progress, Viewer},
};

/// Exit code of who is told twice to end, as of a program that SIGINT ended.
const ENDED: i32 = 130;

/// The terminal of standard error, as long as this lives. Standard output stays for the report.
struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    title: String,
    interrupt: Interrupt,
}

/// Takes the terminal for a view of the run; it is given back when the view is dropped. In raw mode
/// Ctrl-C is a key like others, so the view itself sets `interrupt`.
///
/// # Errors
/// If standard error is no terminal that can be drawn on.
pub fn open(title: &str, interrupt: Interrupt) -> io::Result<Viewer> {
    enable_raw_mode()?;
    let mut screen = match Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr()))) {
        Ok(terminal) => Screen { terminal, title: title.to_owned(), interrupt },
        Err(error) => {
            disable_raw_mode()?;
            return Err(error);
        }
    };
    execute!(io::stderr(), EnterAlternateScreen, Hide)?;
    Ok(Viewer::new(move |progress| screen.show(progress)))
}

impl Screen {
    fn show(&mut self, progress: &Progress) {
        while event::poll(Duration::ZERO).unwrap_or(false) {
            if let Ok(Event::Key(key)) = event::read()
                && ends(key)
                && self.interrupt.set()
            {
                give_back();
                std::process::exit(ENDED);
            }
        }
        let (title, ending) = (&self.title, self.interrupt.is_set());
        // A terminal that is gone hides nothing that the report does not say.
        _ = self.terminal.draw(|frame| frame::draw(frame, title, progress, ending));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // Nothing better can be done about a terminal that refuses.
    _ = disable_raw_mode();
    _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
}

/// Whether a key ends the run.
fn ends(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (control_c || key.code == KeyCode::Char('q'))
}

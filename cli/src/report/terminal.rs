//! The terminal that bars are drawn on.

use std::io::{stderr, stdin};
use std::sync::OnceLock;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};

/// How wide it is, in characters.
pub fn width() -> usize {
    const USUAL: usize = 80;
    tcgetwinsize(stderr()).map_or(USUAL, |size| usize::from(size.ws_col)).max(1)
}

/// Whether it is this program that the user types to: another that changes the terminal is stopped by the system.
fn is_ours() -> bool {
    tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
}

/// As it was before.
static BEFORE: OnceLock<Termios> = OnceLock::new();

/// Has it show no `^C`: that would move the cursor, and a bar would stay behind.
pub fn hide_control_characters() {
    if let Ok(before) = tcgetattr(stdin())
        && is_ours()
    {
        let mut quiet = BEFORE.get_or_init(|| before).clone();
        quiet.local_modes.remove(LocalModes::ECHOCTL);
        // A terminal that cannot do it shows one line too many.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &quiet);
    }
}

/// Has it show everything again, as before.
pub fn restore() {
    if let Some(before) = BEFORE.get().filter(|_| is_ours()) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, before);
    }
}

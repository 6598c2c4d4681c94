//! Disables core dumps: the memory of a process that handles tokens must not reach a disk or another process
//! of its user.

use std::io;

/// Disables core dumps of this process regardless of the inherited limit, and with them access of debuggers
/// and of `/proc/PID/mem` by other processes of the same user (`prctl(2)`, `PR_SET_DUMPABLE`). Call before
/// reading a secret. Fails if the system forbids it, for example by a seccomp filter.
pub fn disable() -> io::Result<()> {
    rlimit::setrlimit(rlimit::Resource::CORE, 0, 0)?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_and_the_access_of_others_are_taken_away() {
        disable().unwrap();
        assert_eq!(rlimit::getrlimit(rlimit::Resource::CORE).unwrap(), (0, 0));
        #[cfg(target_os = "linux")]
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
    }
}

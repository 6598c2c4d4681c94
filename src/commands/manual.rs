//! Manual pages and shell completions, generated from the command line's own definition, for packages.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// Completions of `command` for `shell`, as the file that the shell reads.
pub fn completions(mut command: Command, shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// Writes `pgpassport.1`, and `pgpassport-COMMAND.1` for each subcommand, into `folder`, which it makes if necessary.
pub fn write_pages(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

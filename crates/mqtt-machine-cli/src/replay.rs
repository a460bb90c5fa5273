//! Owns the replay of a transcript for people: every entry, its outputs, and the first difference. It must not know
//! how a transcript is written.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use mqtt_machine::transcript::{Call, Difference, Entry, Replay, Transcript, What};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// What a replay is told.
#[derive(Args)]
pub(crate) struct Options {
    /// The transcript
    file: PathBuf,
    /// Print nothing but the first difference, if there is one
    #[arg(long)]
    quiet: bool,
    /// Put the outputs of today into the file, for a change of them that is wanted
    #[arg(long)]
    renew: bool,
}

/// Replays a transcript.
///
/// # Errors
/// Why it cannot be read or replayed, or the first difference.
pub(crate) fn run(options: &Options) -> Result<()> {
    let transcript = Transcript::new(read(&options.file)?)?;
    if options.renew {
        fs::write(&options.file, Replay::renew(&transcript)?)?;
        return Ok(());
    }
    if options.quiet {
        Replay::verify(&transcript)?;
        return Ok(());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let result = print(&transcript, &mut out).and_then(|()| Ok(out.flush()?));
    match result {
        // Whoever read this has seen enough.
        Err(error) if is_closed(error.as_ref()) => Ok(()),
        result => result,
    }
}

fn is_closed(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Reads a file, and no more of it than a transcript may have.
fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(Transcript::MAX_LEN as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn print(transcript: &Transcript, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{}", transcript.header())?;
    for record in transcript.records() {
        writeln!(out, "  restored from {record:?}")?;
    }
    let mut replay = Replay::new(transcript)?;
    let mut count = 0;
    for (index, entry) in transcript.entries().enumerate() {
        let Entry { at, call, observed: recorded, .. } = entry?;
        writeln!(out, "{index:>6}  {at}  {call}")?;
        let output = What::of(&call);
        let is_poll = matches!(call, Call::PollAction | Call::PollEvent);
        let Some(outputs) = replay.apply(at, call) else { break };
        writeln!(out, "        -> {}", outputs.produced)?;
        if !is_poll {
            writeln!(out, "           {}", outputs.observed)?;
        }
        if let Some(recorded) = recorded
            && let Some(difference) = Difference::find(index, at, output, recorded, outputs.observed)
        {
            out.flush()?;
            return Err(difference.to_string().into());
        }
        count += 1;
    }
    writeln!(out, "{count} entries, and every output is as it was recorded")?;
    Ok(())
}

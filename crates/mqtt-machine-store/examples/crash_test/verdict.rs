//! Owns the judgement: what stands in the subscriber's own record. It must not know how it came there.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::{Plan, Result};

/// What was found when all was well.
pub(crate) struct Verdict {
    doubled: u64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none lost, {} doubled, every topic in order", self.doubled)
    }
}

/// The whole lines of a file; none where there is no file.
pub(crate) fn lines(path: &Path) -> Result<Vec<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().map(str::to_owned).collect())
}

pub(crate) fn judge(plan: &Plan) -> Result<Verdict> {
    let mut counts = vec![0_u64; plan.messages as usize];
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines(&plan.file("consumer"))? {
        let mut parts = line.split(' ');
        let (Some(_key), Some(topic), Some(number)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("{line:?} is no line of the record").into());
        };
        let number: u64 = number.parse()?;
        let count = counts.get_mut(number as usize).ok_or("a number that was never published")?;
        *count += 1;
        if *count > 1 {
            continue;
        }
        if newest.insert(topic.to_owned(), number).is_some_and(|before| before > number) {
            return Err(format!("{topic}: {number} comes after a later one").into());
        }
    }
    let lost: Vec<usize> =
        counts.iter().enumerate().filter(|(_, count)| **count == 0).map(|(number, _)| number).collect();
    if !lost.is_empty() {
        return Err(format!("{} lost: {:?}...", lost.len(), &lost[..lost.len().min(10)]).into());
    }
    let doubled = counts.iter().filter(|count| **count > 1).count() as u64;
    if doubled > 0 && plan.qos == 2 {
        return Err(format!("{doubled} messages of QoS 2 were kept more than once").into());
    }
    Ok(Verdict { doubled })
}

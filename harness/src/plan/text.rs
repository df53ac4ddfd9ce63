//! A plan as text for a person: everything that would run, in reading order.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{Part, Plan};
use crate::link::Carries;

impl Display for Plan {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let site = &self.site;
        writeln!(formatter, "environment {} at {}", site.environment, site.address)?;
        writeln!(formatter, "directory   {}", site.directory.display())?;
        writeln!(formatter, "\nclients are told")?;
        for (name, value) in &self.variables {
            writeln!(formatter, "  {name}={value}")?;
        }
        if !self.topics.is_empty() {
            writeln!(formatter, "\ntopics")?;
        }
        for topic in &self.topics {
            let (partitions, replication) = (topic.partitions, topic.replication);
            writeln!(formatter, "  {}: {partitions} partitions, replication {replication}", topic.name)?;
        }
        if !self.links.is_empty() {
            writeln!(formatter, "\nlinks")?;
        }
        for link in &self.links {
            let carried = match link.carries {
                Carries::Clients => "clients",
                Carries::ClientsAndBrokers => "clients and brokers",
                Carries::Quorum => "the quorum",
            };
            writeln!(formatter, "  {} to {} at {} for {carried}", link.front, link.to, link.back)?;
        }
        self.parts.iter().try_for_each(|part| write!(formatter, "\n{}", told(part)?))
    }
}

fn told(part: &Part) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let addresses: Vec<_> = part.addresses.iter().map(ToString::to_string).collect();
    writeln!(text, "part {} ({})", part.name, part.version)?;
    writeln!(text, "  found at {}", addresses.join(", "))?;
    writeln!(text, "  logs to {}", part.log.display())?;
    writeln!(text, "  works in {}", part.directory.display())?;
    for directory in &part.directories {
        writeln!(text, "  makes {}", directory.display())?;
    }
    for copy in &part.copies {
        writeln!(text, "  copies {} to {}", copy.from.display(), copy.to.display())?;
    }
    for file in &part.files {
        writeln!(text, "  writes {}", file.path.display())?;
        file.content.lines().try_for_each(|line| writeln!(text, "    {line}"))?;
    }
    writeln!(text, "  with")?;
    part.variables.iter().try_for_each(|(name, value)| writeln!(text, "    {name}={value}"))?;
    match &part.container {
        Some(container) => writeln!(text, "  runs in {}", container.image)?,
        None => writeln!(text, "  runs")?,
    }
    part.command.iter().try_for_each(|argument| writeln!(text, "    {argument}"))?;
    if !part.input.is_empty() {
        writeln!(text, "  reads")?;
    }
    part.input.iter().try_for_each(|line| writeln!(text, "    {line}"))?;
    Ok(text)
}

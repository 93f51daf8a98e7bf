//! A page as what it tells people to do: sections of blocks, blocks of commands with what they print.
//!
//! A block is fenced, or indented by four spaces. One with a `$` shows commands and their outputs; one without is all
//! commands, a line each, or several where one ends in a backslash. A comment before a block, which nobody sees on the
//! page, says what the words around it say to people: `<!-- not run: REASON -->`, `<!-- on: MACHINE -->`, and
//! `<!-- file: NAME -->` for what is to be written down as a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

/// One page, by its path in the repository.
#[derive(Debug)]
pub struct Page {
    pub path: Arc<str>,
    pub sections: Vec<Section>,
}

/// What stands below one heading, the page's own or a second one.
#[derive(Debug)]
pub struct Section {
    pub title: String,
    pub blocks: Vec<Block>,
}

/// A line of a page, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct At {
    pub page: Arc<str>,
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.page, self.line)
    }
}

#[derive(Debug, PartialEq)]
pub struct Block {
    /// Where it begins.
    pub at: At,
    pub note: Option<Note>,
    pub content: Content,
}

#[derive(Debug, PartialEq)]
pub enum Content {
    Commands(Vec<Step>),
    Yaml(String),
    /// Fenced as `text`.
    Text,
}

/// What a comment says of the block after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    NotRun(String),
    On(String),
    File(String),
}

/// One command, and what it prints where the page shows that.
#[derive(Debug, PartialEq)]
pub struct Step {
    pub at: At,
    pub command: String,
    pub output: Option<String>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Page {
    /// Reads a page.
    pub fn read(path: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?;
        Self::parse(path, &text)
    }

    /// Finds a section by its title.
    pub fn section(&self, title: &str) -> anyhow::Result<&Section> {
        let found = self.sections.iter().find(|section| section.title == title);
        found.with_context(|| format!("{} has no section {title:?}", self.path))
    }

    /// All blocks, from the first to the last.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.sections.iter().flat_map(|section| &section.blocks)
    }

    fn parse(path: &str, text: &str) -> anyhow::Result<Self> {
        let page: Arc<str> = path.into();
        let mut sections: Vec<Section> = Vec::new();
        let mut note: Option<Note> = None;
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line)).peekable();
        while let Some((line, text)) = lines.next() {
            let at = At { page: page.clone(), line };
            let content = if let Some(title) = text.strip_prefix("# ").or_else(|| text.strip_prefix("## ")) {
                sections.push(Section { title: title.to_owned(), blocks: Vec::new() });
                continue;
            } else if let Some(comment) = text.strip_prefix("<!--") {
                note = Some(read_note(comment).with_context(|| at.to_string())?);
                continue;
            } else if let Some(language) = text.strip_prefix("```") {
                let mut within = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, "```")) => break,
                        Some((_, text)) => within.push(text),
                        None => bail!("{at}: this fence does not end"),
                    }
                }
                match language {
                    "yaml" => Content::Yaml(within.join("\n") + "\n"),
                    "text" => Content::Text,
                    other => bail!("{at}: a block of {other:?} is neither yaml nor text"),
                }
            } else if let Some(first) = text.strip_prefix("    ") {
                let mut within = vec![(line, first)];
                while let Some((line, text)) =
                    lines.next_if(|(_, text)| text.is_empty() || text.starts_with("    "))
                {
                    within.push((line, text.strip_prefix("    ").unwrap_or_default()));
                }
                Content::Commands(steps(&page, &within)?)
            } else {
                ensure!(text.is_empty() || note.is_none(), "{at}: no block follows the comment");
                continue;
            };
            let section = sections.last_mut().with_context(|| format!("{at}: outside any section"))?;
            section.blocks.push(Block { at, note: note.take(), content });
        }
        Ok(Self { path: page, sections })
    }
}

fn read_note(comment: &str) -> anyhow::Result<Note> {
    let words = comment.strip_suffix("-->").context("a comment about a block is one line")?.trim();
    match words.split_once(": ") {
        Some(("not run", reason)) => Ok(Note::NotRun(reason.to_owned())),
        Some(("on", machine)) => Ok(Note::On(machine.to_owned())),
        Some(("file", name)) => Ok(Note::File(name.to_owned())),
        _ => bail!("{words:?} is none of `not run: REASON`, `on: MACHINE`, `file: NAME`"),
    }
}

fn steps(page: &Arc<str>, lines: &[(usize, &str)]) -> anyhow::Result<Vec<Step>> {
    let shows_output = lines.iter().any(|(_, text)| text.starts_with("$ "));
    let mut steps: Vec<Step> = Vec::new();
    for (line, text) in lines {
        let at = At { page: page.clone(), line: *line };
        if let Some(step) = steps.last_mut().filter(|step| step.command.ends_with('\\')) {
            step.command.push_str(&format!("\n{text}"));
            continue;
        }
        match (text.strip_prefix("$ "), steps.last_mut().and_then(|step| step.output.as_mut())) {
            (Some(command), _) => {
                steps.push(Step { at, command: command.to_owned(), output: Some(String::new()) });
            }
            (None, Some(output)) => output.push_str(&format!("{text}\n")),
            (None, None) if text.is_empty() => {}
            (None, None) if shows_output => bail!("{at}: an output without its command"),
            (None, None) => steps.push(Step { at, command: (*text).to_owned(), output: None }),
        }
    }
    for output in steps.iter_mut().filter_map(|step| step.output.as_mut()) {
        output.truncate(output.trim_end().len());
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(line: usize, command: &str, output: Option<&str>) -> Step {
        let at = At { page: "a.md".into(), line };
        Step { at, command: command.to_owned(), output: output.map(str::to_owned) }
    }

    #[test]
    fn commands_and_what_they_print_are_told_apart() {
        let text =
            "## One\ntext\n\n    $ a \\\n      b\n    x\n      y\n\n    $ c\n\ntext\n\n    d    # e\n    f\n";
        let page = Page::parse("a.md", text).unwrap();
        let blocks = &page.section("One").unwrap().blocks;
        let shown = vec![step(4, "a \\\n  b", Some("x\n  y")), step(9, "c", Some(""))];
        assert_eq!(blocks[0].content, Content::Commands(shown));
        assert_eq!(
            blocks[1].content,
            Content::Commands(vec![step(13, "d    # e", None), step(14, "f", None)])
        );
    }

    #[test]
    fn comment_is_about_the_block_after_it_and_nothing_else() {
        let text = "# One\n\n<!-- not run: it is long -->\n\n    a\n\n```yaml\nb: c\n```\n\n<!-- file: d.yaml -->\n```yaml\nb: c\n```\n";
        let blocks = &Page::parse("a.md", text).unwrap().sections[0].blocks;
        assert_eq!(blocks[0].note, Some(Note::NotRun("it is long".to_owned())));
        assert_eq!((&blocks[1].note, &blocks[1].content), (&None, &Content::Yaml("b: c\n".to_owned())));
        assert_eq!(blocks[2].note, Some(Note::File("d.yaml".to_owned())));
        for wrong in [
            "<!-- what: ever -->",
            "<!-- not run: x -->\ntext",
            "```sh\na\n```",
            "```yaml\na",
            "    a\n    $ b",
        ] {
            assert!(Page::parse("a.md", &format!("## One\n{wrong}\n")).is_err(), "{wrong}");
        }
    }
}

//! From the parser's events to values, each with its place.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value};

use super::scalar;
use super::source::Position;
use crate::finding::{Code, Path, Step};

/// The most bytes of one document.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// The most mappings and lists inside one another.
pub const MAX_DEPTH: usize = 32;

/// After so many flaws nothing more is read: nobody reads more, and looking for them costs.
const FLAWS_MAX: usize = 100;

/// The places of a value and of everything in it.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    at: Position,
    inside: Inside,
}

#[derive(Debug, Clone)]
enum Inside {
    Nothing,
    Fields(Vec<(String, Position, Tree)>),
    Items(Vec<Tree>),
}

/// Where what a path names stands in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreePosition {
    /// Where the key begins; for an element of a list, the element.
    pub(super) key: Position,
    /// Where the value begins.
    pub(super) value: Position,
    /// Whether the whole path is written.
    pub(super) exact: bool,
}

impl Tree {
    pub(super) fn find(&self, path: &Path) -> TreePosition {
        let mut found = TreePosition { key: self.at, value: self.at, exact: true };
        let mut tree = self;
        for step in path.steps() {
            let next = match (step, &tree.inside) {
                (Step::Field(name), Inside::Fields(fields)) => {
                    fields.iter().find(|(key, _, _)| key == name).map(|(_, at, tree)| (*at, tree))
                }
                (Step::Index(index), Inside::Items(items)) => items.get(*index).map(|tree| (tree.at, tree)),
                _ => None,
            };
            let Some((key, below)) = next else {
                return TreePosition { exact: false, ..found };
            };
            tree = below;
            found = TreePosition { key, value: tree.at, exact: true };
        }
        found
    }

    pub(super) fn into_items(self) -> Vec<Self> {
        match self.inside {
            Inside::Items(items) => items,
            Inside::Nothing | Inside::Fields(_) => Vec::new(),
        }
    }

    pub(super) fn into_field(self, name: &str) -> Option<Self> {
        match self.inside {
            Inside::Fields(fields) => {
                fields.into_iter().find(|(key, _, _)| key == name).map(|(_, _, tree)| tree)
            }
            Inside::Nothing | Inside::Items(_) => None,
        }
    }
}

/// Something that keeps a text from being read, or that is refused in any document.
#[derive(Debug)]
pub(super) struct TextError {
    pub(super) document: usize,
    pub(super) at: Position,
    pub(super) path: Path,
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Reads all documents of a text. Documents with a flaw are left out; after one that breaks the syntax or a limit,
/// nothing more is read.
pub(super) fn read(text: &str) -> (Vec<(Value, Tree)>, Vec<TextError>) {
    let mut reader = Reader { text, ..Reader::default() };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if reader.take(event, span).is_err() {
                    break;
                }
            }
            Err(error) => {
                reader.flaw(*error.marker(), Code::Syntax, format!("cannot be read: {}", error.info()), None);
                break;
            }
        }
    }
    (reader.documents, reader.flaws)
}

/// A mapping or a list that is not closed yet.
enum Frame {
    Map {
        at: Position,
        values: Map<String, Value>,
        fields: Vec<(String, Position, Tree)>,
        key: Option<(String, Position)>,
    },
    List {
        at: Position,
        values: Vec<Value>,
        items: Vec<Tree>,
    },
}

#[derive(Default)]
struct Reader<'a> {
    text: &'a str,
    documents: Vec<(Value, Tree)>,
    flaws: Vec<TextError>,
    /// Documents begun, empty ones not counted.
    index: usize,
    open: Vec<Frame>,
    root: Option<(Value, Tree)>,
    flaws_before: usize,
    /// Characters and bytes read so far.
    read: (usize, usize),
    /// The byte at which the document begins.
    begin: usize,
}

/// The text is not read any further.
struct StopReading;

impl Reader<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), StopReading> {
        let at = position(span.start);
        self.check_size(span.end)?;
        if self.flaws.len() >= FLAWS_MAX {
            return Err(StopReading);
        }
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            Event::DocumentStart(_) => {
                self.root = None;
                self.flaws_before = self.flaws.len();
            }
            Event::DocumentEnd => self.end_document(span.end),
            Event::Alias(_) => {
                let hint = "write the value out".to_owned();
                self.flaw(span.start, Code::UnsupportedSyntax, "aliases are refused".to_owned(), Some(hint));
                self.put(Value::Null, Tree { at, inside: Inside::Nothing });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_anchor(span.start, anchor);
                let is_text = self.check_tag(span.start, tag.as_deref())
                    || style != ScalarStyle::Plain
                    || self.expects_key();
                let value = if is_text { Value::String(text.into_owned()) } else { scalar::resolve(&text) };
                self.put(value, Tree { at, inside: Inside::Nothing });
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin_inside(span.start, anchor, tag.as_deref())?;
                self.open.push(Frame::List { at, values: Vec::new(), items: Vec::new() });
            }
            Event::MappingStart(anchor, tag) => {
                self.begin_inside(span.start, anchor, tag.as_deref())?;
                self.open.push(Frame::Map { at, values: Map::new(), fields: Vec::new(), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Frame::Map { at, values, fields, .. }) => {
                    self.put(Value::Object(values), Tree { at, inside: Inside::Fields(fields) });
                }
                Some(Frame::List { at, values, items }) => {
                    self.put(Value::Array(values), Tree { at, inside: Inside::Items(items) });
                }
                None => {}
            },
        }
        Ok(())
    }

    fn begin_inside(&mut self, at: Marker, anchor: usize, tag: Option<&Tag>) -> Result<(), StopReading> {
        self.check_anchor(at, anchor);
        self.check_tag(at, tag);
        if self.expects_key() {
            self.flaw(at, Code::Syntax, "a key must be a plain word".to_owned(), None);
            return Err(StopReading);
        }
        if self.open.len() == MAX_DEPTH {
            self.flaw(at, Code::TooLarge, format!("is nested deeper than {MAX_DEPTH}"), None);
            return Err(StopReading);
        }
        Ok(())
    }

    /// Whether the next value is the key of a field.
    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Frame::Map { key: None, .. }))
    }

    /// Puts a value where it belongs: into the open mapping or list, or as the document.
    fn put(&mut self, value: Value, tree: Tree) {
        let mut twice = None;
        match self.open.last_mut() {
            None => self.root = Some((value, tree)),
            Some(Frame::List { values, items, .. }) => {
                values.push(value);
                items.push(tree);
            }
            Some(Frame::Map { values, fields, key, .. }) => match key.take() {
                None => {
                    let Value::String(name) = value else { return };
                    if values.contains_key(&name) {
                        let first = fields.iter().find(|(field, _, _)| *field == name);
                        let line = first.map_or(tree.at.line, |(_, at, _)| at.line);
                        twice = Some((name.clone(), line, tree.at));
                    }
                    *key = Some((name, tree.at));
                }
                Some((name, at)) => {
                    values.insert(name.clone(), value);
                    fields.push((name, at, tree));
                }
            },
        }
        if let Some((name, line, at)) = twice {
            let message = format!("{name:?} stands twice, first on line {line}");
            let path = self.path();
            self.flaws.push(TextError {
                document: self.index,
                at,
                path,
                code: Code::DuplicateKey,
                message,
                hint: None,
            });
        }
    }

    fn end_document(&mut self, end: Marker) {
        let clean = self.flaws.len() == self.flaws_before;
        match self.root.take() {
            Some((Value::Null, _)) | None if clean => {}
            Some(root) if clean => {
                self.documents.push(root);
                self.index += 1;
            }
            _ => self.index += 1,
        }
        self.open.clear();
        self.begin = self.advance(end.index());
    }

    /// The byte at which character number `index` of the text begins. Each byte of the text is looked at once.
    fn advance(&mut self, index: usize) -> usize {
        let (characters, bytes) = self.read;
        if index > characters {
            let rest = &self.text[bytes..];
            let further = rest.char_indices().nth(index - characters).map_or(rest.len(), |(at, _)| at);
            self.read = (index, bytes + further);
        }
        self.read.1
    }

    fn check_size(&mut self, end: Marker) -> Result<(), StopReading> {
        if self.advance(end.index()) - self.begin <= MAX_DOCUMENT_BYTES {
            return Ok(());
        }
        let message = format!("a document has at most {MAX_DOCUMENT_BYTES} bytes");
        self.flaw(end, Code::TooLarge, message, Some("split it into several documents".to_owned()));
        Err(StopReading)
    }

    fn check_anchor(&mut self, at: Marker, anchor: usize) {
        if anchor != 0 {
            let hint = "write the value where it is used".to_owned();
            self.flaw(at, Code::UnsupportedSyntax, "anchors are refused".to_owned(), Some(hint));
        }
    }

    /// Whether the tag makes a string of the scalar; tags other than that are refused.
    fn check_tag(&mut self, at: Marker, tag: Option<&Tag>) -> bool {
        let Some(tag) = tag else { return false };
        if tag.is_yaml_core_schema() && tag.suffix == "str" {
            return true;
        }
        self.flaw(at, Code::UnsupportedSyntax, format!("the tag {tag} is refused"), None);
        false
    }

    fn flaw(&mut self, at: Marker, code: Code, message: String, hint: Option<String>) {
        let path = self.path();
        self.flaws.push(TextError { document: self.index, at: position(at), path, code, message, hint });
    }

    /// The path of what is being read.
    fn path(&self) -> Path {
        let mut path = Path::default();
        for frame in &self.open {
            match frame {
                Frame::Map { key: Some((name, _)), .. } => path.push(name.clone().into()),
                Frame::Map { key: None, .. } => {}
                Frame::List { values, .. } => path.push(values.len().into()),
            }
        }
        path
    }
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

//! No circle of imports: what a file is made of does not lead back to it.
//!
//! An arrow runs from a file to the file that defines what it names, by `use` or by a path in the code. A file that only
//! passes on a name of its own children (`pub use child::Name`) is looked through. Two files may need each other; three
//! and more that do can only be understood together.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::nothing_in;
use crate::source::{self, SourceFile};

/// As many files may need each other.
const AT_MOST: usize = 2;

#[test]
fn no_three_files_import_each_other_in_a_circle() {
    let mut files = BTreeMap::<String, Vec<SourceFile>>::new();
    for file in source::rust().into_iter().filter(|file| !file.is_test()) {
        if let Some((folder, _)) = file.path.split_once("/src/") {
            files.entry(format!("{folder}/src")).or_default().push(file);
        }
    }
    assert!(files.len() > 5, "only {} crates were found", files.len());
    let circles = files.iter().flat_map(|(root, files)| Crate::read(root, files).circles());
    let found: Vec<String> = circles.map(|circle| circle.join(", ")).collect();
    nothing_in(&found, "move what they share to a file below:");
}

/// The imports of a crate's own modules, from one to the other.
pub fn imports(root: &str) -> Vec<(Path, Path)> {
    let files: Vec<SourceFile> = source::rust()
        .into_iter()
        .filter(|file| !file.is_test() && file.path.starts_with(&format!("{root}/")))
        .collect();
    let read = Crate::read(root, &files);
    let arrows = |(from, (_, named)): (&Path, &(String, Vec<Named>))| {
        let from = from.clone();
        let to = read.arrows(&from, named);
        to.into_iter().map(move |to| (from.clone(), to)).collect::<Vec<_>>()
    };
    read.modules.iter().flat_map(arrows).collect()
}

/// A path of names, from the root of the crate for a module.
pub type Path = Vec<String>;

/// What a module names.
struct Named {
    path: Path,
    /// It is passed on under its name.
    public: bool,
}

struct Crate {
    /// The file and the names of each module.
    modules: BTreeMap<Path, (String, Vec<Named>)>,
}

impl Crate {
    fn read(root: &str, files: &[SourceFile]) -> Self {
        let module = |path: &str| -> Path {
            let inner = path.strip_prefix(root).unwrap_or(path).trim_matches('/').trim_end_matches(".rs");
            inner.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
        };
        let texts: BTreeMap<Path, &SourceFile> =
            files.iter().map(|file| (module(&file.path), file)).collect();
        let read = |(module, file): (&Path, &&SourceFile)| {
            let children = texts.keys().filter(|other| other.len() == module.len() + 1);
            let children = children.filter(|other| other.starts_with(module));
            let children: BTreeSet<&str> = children.filter_map(|child| child.last()).map(|c| &**c).collect();
            (module.clone(), (file.path.clone(), names(file.production(), &children)))
        };
        Self { modules: texts.iter().map(read).collect() }
    }

    /// The module that a path leads to from a module, and what follows it in the path.
    fn absolute(&self, from: &[String], path: &[String]) -> Option<Path> {
        let mut at = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => from.to_vec(),
            child => {
                let mut inner = from.to_vec();
                inner.push(child.to_owned());
                return self.modules.contains_key(&inner).then(|| [from, path].concat());
            }
        };
        let rest = path.iter().skip_while(|part| matches!(part.as_str(), "crate" | "self" | "super"));
        for _ in path.iter().take_while(|part| *part == "super") {
            at.pop();
        }
        at.extend(rest.cloned());
        Some(at)
    }

    /// The module that defines what an absolute path names.
    fn defines(&self, path: &[String], through: usize) -> Option<Path> {
        let depth = (0..=path.len()).rev().find(|depth| self.modules.contains_key(&path[..*depth]))?;
        let module = path[..depth].to_vec();
        let passed_on = |name: &String| {
            let (_, named) = self.modules.get(&module)?;
            let export = named.iter().find(|named| named.public && named.path.last() == Some(name))?;
            self.absolute(&module, &export.path).filter(|inner| inner != path)
        };
        match path.get(depth).and_then(passed_on) {
            Some(inner) if through > 0 => self.defines(&inner, through - 1),
            Some(_) | None => Some(module),
        }
    }

    fn arrows(&self, from: &Path, named: &[Named]) -> BTreeSet<Path> {
        let to = named.iter().filter_map(|named| {
            let to = self.defines(&self.absolute(from, &named.path)?, 8)?;
            let is_passed_on = named.public && to.starts_with(from);
            (!is_passed_on && !to.is_empty() && to != *from).then_some(to)
        });
        to.collect()
    }

    /// Files that need each other, where they are too many.
    fn circles(&self) -> Vec<Vec<String>> {
        let arrows: BTreeMap<&Path, BTreeSet<Path>> =
            self.modules.iter().map(|(module, (_, named))| (module, self.arrows(module, named))).collect();
        let reached: BTreeMap<&Path, BTreeSet<Path>> =
            arrows.keys().map(|module| (*module, reach(&arrows, module))).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for (module, all) in &reached {
            let circle: Vec<&Path> = all.iter().filter(|other| reached[other].contains(*module)).collect();
            if circle.len() > AT_MOST && seen.insert(circle.clone()) {
                circles.push(circle.into_iter().map(|module| self.modules[module].0.clone()).collect());
            }
        }
        circles
    }
}

/// All that can be reached along arrows.
fn reach(arrows: &BTreeMap<&Path, BTreeSet<Path>>, from: &Path) -> BTreeSet<Path> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = next.pop() {
        for to in &arrows[&module] {
            if found.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    found
}

/// The paths that a module's text names. A path in the code counts where it starts at a known place: the crate, this
/// module, its parent, or one of its children.
fn names(text: &str, children: &BTreeSet<&str>) -> Vec<Named> {
    let comment = Regex::new(r"//[^\n]*").unwrap();
    let visibility = Regex::new(r"pub\(in [^)]*\)").unwrap();
    let import = Regex::new(r"(?P<public>pub(\([a-z]*\))?\s+)?\buse\s+(?P<tree>[^;]+);").unwrap();
    let inline = Regex::new(r"\b[a-z_0-9]+(::\w+)+").unwrap();
    let text = comment.replace_all(text, "");
    let text = visibility.replace_all(&text, "pub(crate)");
    let mut found = Vec::new();
    for import in import.captures_iter(&text) {
        let public = import.name("public").is_some();
        let trees = branches(&import["tree"], &[]);
        found.extend(trees.into_iter().map(|path| Named { path, public }));
    }
    for path in inline.find_iter(&import.replace_all(&text, "")) {
        let path: Path = path.as_str().split("::").map(str::to_owned).collect();
        if matches!(path[0].as_str(), "crate" | "super" | "self") || children.contains(&*path[0]) {
            found.push(Named { path, public: false });
        }
    }
    found
}

/// The paths of a `use` tree.
fn branches(tree: &str, before: &[String]) -> Vec<Path> {
    let parts = |text: &str| -> Path {
        text.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let Some((head, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        let mut path = [before, &parts(name)].concat();
        if path.len() > 1 {
            path.pop_if(|last| last == "self");
        }
        return if path.is_empty() { Vec::new() } else { vec![path] };
    };
    let before = [before, &parts(head)].concat();
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, sign) in inner.char_indices().chain([(inner.len(), ',')]) {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    found.extend(branches(&inner[start..at], &before));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

mod checks {
    use super::{Crate, branches};
    use crate::source::SourceFile;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let file = |(path, text): &(&str, &str)| SourceFile {
            path: format!("x/src/{path}"),
            text: (*text).to_owned(),
        };
        Crate::read("x/src", &files.iter().map(file).collect::<Vec<_>>()).circles()
    }

    #[test]
    fn three_files_in_a_circle_are_found_however_they_name_each_other() {
        let found = circles(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "use super::b::{self, B};\n"),
            ("b.rs", "pub(crate) struct B(crate::c::C);\n"),
            ("c.rs", "mod d;\npub(crate) use d::D;\n"),
            ("c/d.rs", "use std::io;\nuse super::super::a::A;\n"),
        ]);
        assert!(found.is_empty(), "c passes D on, and C is its own: {found:?}");
        let found = circles(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "use super::b::{self, B};\n"),
            ("b.rs", "pub(crate) struct B(crate::c::D);\n"),
            ("c.rs", "mod d;\npub(crate) use d::D;\n"),
            ("c/d.rs", "use super::super::a::A; // {\n"),
        ]);
        assert_eq!(found, [["x/src/a.rs", "x/src/b.rs", "x/src/c/d.rs"]]);
    }

    #[test]
    fn two_files_and_test_code_may_need_each_other() {
        let found = circles(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "use crate::b::B;\n"),
            ("b.rs", "use crate::a::A;\n\n#[cfg(test)]\nmod tests {\n    use crate::c::C;\n}\n"),
            ("c.rs", "use crate::a::A;\n"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_use_tree_is_read_branch_by_branch() {
        let read = branches("super::a::{self, b::{C, D as E}, f}", &[]);
        let read: Vec<String> = read.iter().map(|path| path.join("::")).collect();
        assert_eq!(read, ["super::a", "super::a::b::C", "super::a::b::D", "super::a::f"]);
    }
}

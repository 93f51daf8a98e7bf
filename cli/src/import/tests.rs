//! What comes of documents of each mesh, and that nothing of them is dropped in silence.

mod consul;
mod other;

use serde_json::{Value, json};
use weft_policies::PolicySet;

use super::{DefaultIntention, ImportOptions, ImportSource, Imported, import};

fn options(default_intention: Option<DefaultIntention>) -> ImportOptions {
    ImportOptions { namespace: "default".parse().unwrap(), default_intention }
}

fn imported(source: ImportSource, text: &str) -> Imported {
    let texts = [("file".to_owned(), text.to_owned())];
    import(source, &texts, &options(None)).unwrap_or_else(|found| panic!("{found:#?}"))
}

/// All documents and notes, for comparing.
fn shown(imported: &Imported) -> String {
    let notes: Vec<String> = imported.notes.iter().map(|note| format!("{} {note}\n", note.code)).collect();
    imported.yaml().unwrap() + &notes.concat()
}

impl Imported {
    /// What a document of a kind and name says.
    fn spec(&self, kind: &str, name: &str) -> &Value {
        let is_it = |value: &Value| value["kind"] == kind && value["metadata"]["name"] == name;
        let found = self.documents.iter().map(|one| &one.value).find(|value| is_it(value));
        &found.unwrap_or_else(|| panic!("no {kind} {name} in\n{}", shown(self)))["spec"]
    }

    /// The message of the note at a field.
    fn note(&self, path: &str) -> &str {
        let found = self.notes.iter().find(|note| note.path == path);
        &found.unwrap_or_else(|| panic!("no note at {path} in\n{}", shown(self))).message
    }

    /// Takes what came of it as `weft validate` does.
    fn is_valid(&self) {
        let documents =
            weft_policies::parse("made", &self.yaml().unwrap()).unwrap_or_else(|found| panic!("{found:#?}"));
        PolicySet::default().apply(&documents).unwrap_or_else(|found| panic!("{found:#?}"));
    }
}

/// An example of everything that is read of each mesh.
const EXAMPLES: [(ImportSource, &str); 5] = [
    (ImportSource::Consul, consul::ROUTING),
    (ImportSource::Consul, consul::INTENTIONS),
    (ImportSource::Kuma, other::KUMA),
    (ImportSource::AppMesh, other::APP_MESH),
    (ImportSource::AppMesh, other::APP_MESH_KUBERNETES),
];

fn documents(text: &str) -> Vec<Value> {
    let read = weft_policies::document::parse_any("file", text).unwrap_or_else(|found| panic!("{found:#?}"));
    read.into_iter().map(|one| one.value).collect()
}

/// Each place of a value, as a JSON pointer.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), out));
        }
        Value::Object(fields) => fields.iter().for_each(|(key, field)| {
            places(field, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), out);
        }),
        _ => {}
    }
}

/// A field that no mesh knows is put into every mapping of every example, one at a time: there is a note at it, or at what
/// it stands in, each time.
#[test]
fn field_that_nobody_knows_is_told_wherever_it_stands() {
    for (source, text) in EXAMPLES {
        for (index, document) in documents(text).into_iter().enumerate() {
            let mut all = Vec::new();
            places(&document, "", &mut all);
            for place in all {
                let mut documents = documents(text);
                let Some(fields) = documents[index].pointer_mut(&place).and_then(Value::as_object_mut) else {
                    continue;
                };
                if is_free(&place) {
                    continue;
                }
                fields.insert("zzzUnheardOf".to_owned(), json!("odd"));
                let text = Value::from(documents).to_string();
                let found = imported(source, &text);
                let path = |note: &str| note.replace("[\"", ".").replace("\"]", "");
                let said = found.notes.iter().any(|note| {
                    let full = format!("{}.zzzUnheardOf", dotted(&place));
                    note.document == index && full.trim_start_matches('.').starts_with(&path(&note.path))
                });
                assert!(said, "{source:?} {index} {place}:\n{}", shown(&found));
            }
        }
    }
}

/// Each value that was read, and is not told of, changes what comes out when it changes itself.
#[test]
fn value_that_no_note_tells_of_has_an_effect() {
    let mut without_effect = Vec::new();
    for (source, text) in EXAMPLES {
        let before = imported(source, text);
        let plain = shown(&before);
        for (index, document) in documents(text).into_iter().enumerate() {
            let mut all = Vec::new();
            places(&document, "", &mut all);
            for place in all {
                let mut documents = documents(text);
                let value = documents[index].pointer_mut(&place).unwrap();
                let other = match value {
                    Value::Bool(flag) => json!(!*flag),
                    Value::Number(number) => json!(number.as_f64().unwrap_or_default() + 1.0),
                    Value::String(text) => json!(format!("{text}x")),
                    _ => continue,
                };
                *value = other;
                let path = dotted(&place);
                let path = path.trim_start_matches('.');
                let is_told = before.notes.iter().any(|note| {
                    let note_path = note.path.replace("[\"", ".").replace("\"]", "");
                    note.document == index
                        && path.starts_with(note_path.as_str())
                        && note.code == "not_carried"
                });
                if is_told || is_aside(&place) {
                    continue;
                }
                let text = Value::from(documents).to_string();
                let texts = [("file".to_owned(), text)];
                let after =
                    import(source, &texts, &options(None)).map(|found| shown(&found)).unwrap_or_default();
                if without_places(&plain) == without_places(&after) {
                    without_effect.push(format!("{source:?} {index} {place}"));
                }
            }
        }
    }
    assert!(without_effect.is_empty(), "{without_effect:#?}");
}

/// Without lines and columns, which differ between YAML and JSON.
fn without_places(shown: &str) -> String {
    regex::Regex::new(r"file:\d+:\d+").unwrap().replace_all(shown, "file").into_owned()
}

/// `/a/0/b` as notes write it, `.a[0].b`.
fn dotted(pointer: &str) -> String {
    let step = |step: &str| match step.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{}", step.replace("~1", "/").replace("~0", "~")),
    };
    pointer.split('/').skip(1).map(step).collect()
}

/// Mappings whose keys are the user's own words.
fn is_free(place: &str) -> bool {
    ["/Set", "/Add", "/set", "/add", "/tags", "/Subsets", "/labels"].iter().any(|end| place.ends_with(end))
        || is_aside(place)
}

/// What says nothing of the mesh.
fn is_aside(place: &str) -> bool {
    [
        "apiVersion",
        "ModifyIndex",
        "CreateIndex",
        "uid",
        "arn",
        "meshName",
        "meshRef",
        "status",
        "Precedence",
        "/mesh",
    ]
    .iter()
    .any(|word| place.contains(word))
        || place.ends_with("/metadata/namespace") && place.len() < 22
        || place.starts_with("/virtualNode/metadata")
}

#[test]
fn what_cannot_be_read_is_told_with_a_remedy() {
    let hcl = "Kind = \"service-router\"\nName = \"web\"\n";
    for (file, text) in [("web.hcl", hcl), ("web.txt", hcl)] {
        let texts = [(file.to_owned(), text.to_owned())];
        let found = import(ImportSource::Consul, &texts, &options(None)).unwrap_err();
        let said = found[0].to_string();
        assert!(said.contains(file) && said.contains("consul config read -kind"), "{said}");
    }
    let texts = [("a.yaml".to_owned(), "a: [".to_owned())];
    assert!(import(ImportSource::Kuma, &texts, &options(None)).is_err());
    for (source, text) in [
        (ImportSource::Consul, "Name: web"),
        (ImportSource::Consul, "Kind: service-thing\nName: a"),
        (ImportSource::Kuma, "name: a"),
        (ImportSource::AppMesh, "spec: {a: b}"),
    ] {
        let found = imported(source, text);
        assert!(found.documents.is_empty() && !found.notes.is_empty(), "{text}: {}", shown(&found));
        assert_eq!(found.notes[0].code, "not_carried");
    }
}

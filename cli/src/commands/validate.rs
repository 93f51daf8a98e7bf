//! `weft validate`: what is wrong with documents, each by itself and beside each other.

use std::process::ExitCode;

use weft_api::rest::{Problem, Violation};
use weft_policies::{DocumentsRead, PolicySet};

use super::apply::{InputFile, gather, relocate_one};
use crate::args::Validate;
use crate::output::{self, outln};

pub fn run(args: &Validate) -> anyhow::Result<ExitCode> {
    let (text, sources) = gather(&args.files)?;
    let (documents, errors, warnings) = judge(&text, &sources);
    let count = errors.len();
    let title = match count {
        0 => format!("{documents} documents are valid"),
        1 => "1 problem".to_owned(),
        _ => format!("{count} problems"),
    };
    let mut problem = Problem::new(if count == 0 { 200 } else { 422 }, "invalid", &title, "");
    if count == 0 {
        problem.code = "valid".to_owned();
    }
    problem.violations = errors;
    if !args.output.is_table() {
        problem.violations.extend(warnings);
        output::print(args.output, &problem, &[], Vec::new)?;
    } else {
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        if count == 0 {
            outln!("{problem}");
        } else {
            eprintln!("weft: {problem}");
        }
    }
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many documents there are, what is wrong with them, and what people should look at: objects that they name and that
/// are in none of the files may be in the mesh.
fn judge(text: &str, sources: &[InputFile]) -> (usize, Vec<Violation>, Vec<Violation>) {
    let placed = |mut found: Vec<Violation>| {
        found.iter_mut().for_each(|violation| relocate_one(violation, sources));
        found
    };
    match weft_policies::parse_among_others("input", text) {
        Err(found) => (0, placed(found), Vec::new()),
        Ok(DocumentsRead { documents, left_out }) => match PolicySet::default().apply(&documents) {
            Err(found) => (documents.len(), placed(found), Vec::new()),
            Ok(applied) => (documents.len(), Vec::new(), placed([left_out, applied.warnings].concat())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_judged_by_themselves_and_beside_each_other() {
        let service = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: web}\n\
                       spec: {ports: [{name: http, port: 80, protocol: HTTP}]}\n";
        let route = |port: u16| {
            format!(
                "---\napiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {{parentRefs: [{{kind: \
                 Service, name: web, port: {port}}}], rules: [{{backendRefs: [{{name: other, port: 80}}]}}]}}\n"
            )
        };
        let (count, errors, warnings) = judge(&format!("{service}{}", route(80)), &[]);
        assert_eq!((count, errors.len()), (2, 0), "{errors:#?}");
        assert!(warnings.iter().any(|one| one.message.contains("other")), "{warnings:#?}");
        let (_, errors, _) = judge(&format!("{service}{}", route(81)), &[]);
        assert_eq!(errors[0].code, "unknown_port", "{errors:#?}");
        let (_, errors, _) = judge("kind: Nothing\n", &[]);
        assert!(!errors.is_empty());
    }
}

//! `weft drain`: one workload out of balancing for everybody, and back.

use std::process::ExitCode;

use weft_api::rest::{DrainRequest, DrainResult};

use super::apply::delivered;
use super::name::full_name;
use crate::args::DrainArgs;
use crate::output::{self, out};
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: DrainArgs) -> anyhow::Result<ExitCode> {
    let (namespace, name) = full_name(&args.id, &args.namespace);
    let request = DrainRequest { undo: args.undo, force: args.force, wait: args.delivery.wait };
    let id = format!("{namespace}/{name}");
    let result = replicas.any(async |client| client.drain(&id, &request).await).await?;
    if args.delivery.output.is_table() {
        out!("{}", describe(&result));
    } else {
        output::print(args.delivery.output, &result, &[], Vec::new)?;
    }
    let missing = result.wait.as_ref().is_some_and(|wait| !wait.is_complete());
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe(result: &DrainResult) -> String {
    let id = &result.workload;
    let mut text = match (result.drained, result.changed) {
        (true, true) => format!("{id} is drained: it gets no new requests\n"),
        (true, false) => format!("{id} was drained before\n"),
        (false, true) => format!("{id} takes requests again\n"),
        (false, false) => format!("{id} was not drained\n"),
    };
    for service in result.services.iter().filter(|_| result.drained) {
        let others = match service.others {
            0 => "nobody else takes them".to_owned(),
            1 => "1 other instance takes them".to_owned(),
            count => format!("{count} other instances take them"),
        };
        text.push_str(&format!("  {}: {others}\n", service.service));
    }
    if let Some(wait) = &result.wait {
        text.push_str(&delivered(wait));
    }
    text
}

#[cfg(test)]
mod tests {
    use weft_api::rest::DrainedService;

    use super::*;

    #[test]
    fn says_who_is_left() {
        let service = |others| DrainedService { service: "shop/web".to_owned(), others };
        let result = DrainResult {
            workload: "shop/web-1".to_owned(),
            drained: true,
            changed: true,
            services: vec![service(0), service(1), service(2)],
            wait: None,
        };
        let text = describe(&result);
        for words in ["nobody else takes them", "1 other instance takes", "2 other instances take"] {
            assert!(text.contains(words), "{text}");
        }
    }
}

//! What makes a TelemetryPolicy valid by itself.

use super::format::check_format;
use super::{RequestLog, RequestLogFormat, RequestLogSink, ServiceTracing, SpanTag, TelemetryPolicy};
use crate::finding::{Code, Findings};
use crate::kinds::kind::Level;
use crate::kinds::mesh::check_sampling;
use crate::kinds::target::check_targets;
use crate::metadata::Metadata;

/// Logs of one target. Each is written for each request.
const MOST_LOGS: usize = 8;
/// Tags of one target.
const MOST_TAGS: usize = 32;
/// Fields of one log.
const MOST_FIELDS: usize = 64;

pub(super) fn check(policy: &TelemetryPolicy, metadata: &Metadata, out: &mut Findings) {
    check_targets::<TelemetryPolicy>(&policy.target_refs, &metadata.namespace, out);
    out.each("targetRefs", &policy.target_refs, |out, target| {
        if target.level() >= Level::Route {
            let message = "a TelemetryPolicy is about services: routes write nothing down";
            out.add_at("kind", Code::InvalidValue, message).hint("target the Service");
        }
    });
    if let Some(logs) = &policy.access_logs {
        refuse_more("accessLogs", logs.len(), MOST_LOGS, out);
        out.each("accessLogs", logs, |out, log| log.check(out));
    }
    if let Some(tracing) = &policy.tracing {
        out.at("tracing", |out| tracing.check(out));
    }
    if policy.metrics.is_some() {
        out.not_supported("metrics", "metrics")
            .hint("metrics tell services, ports, versions, routes and statuses apart by themselves");
    }
    if policy.access_logs.is_none() && policy.tracing.is_none() && policy.metrics.is_none() {
        out.add(Code::Required, "the policy sets nothing").hint("write accessLogs or tracing");
    }
}

fn refuse_more(field: &'static str, count: usize, most: usize, out: &mut Findings) {
    if count > most {
        out.add_at(field, Code::TooLarge, format!("there are at most {most}")).value(count);
    }
}

impl RequestLog {
    fn check(&self, out: &mut Findings) {
        match self.sink {
            RequestLogSink::Stdout | RequestLogSink::File => {}
            RequestLogSink::Otlp if self.endpoint.is_none() => {
                out.add_at("endpoint", Code::Required, "sink Otlp needs the collector")
                    .hint("write endpoint: http://HOST:4317");
            }
            RequestLogSink::Otlp => {}
        }
        let is_for = |is_set: bool, field: &'static str, fits: bool, of: &str, out: &mut Findings| {
            if is_set && !fits {
                out.add_at(field, Code::Inconsistent, format!("has a meaning with {of} only"))
                    .hint("leave it out");
            }
        };
        is_for(self.endpoint.is_some(), "endpoint", self.sink == RequestLogSink::Otlp, "sink: Otlp", out);
        is_for(self.file.is_some(), "file", self.sink == RequestLogSink::File, "sink: File", out);
        is_for(
            self.template.is_some(),
            "template",
            self.format == RequestLogFormat::Text,
            "format: Text",
            out,
        );
        is_for(self.fields.is_some(), "fields", self.format == RequestLogFormat::Json, "format: Json", out);
        if let Some(template) = &self.template {
            out.at("template", |out| check_format(template, out));
        }
        if let Some(fields) = &self.fields {
            if fields.is_empty() {
                out.add_at("fields", Code::Inconsistent, "an entry without fields tells nothing")
                    .hint("leave it out for the usual ones");
            }
            refuse_more("fields", fields.len(), MOST_FIELDS, out);
            out.at("fields", |out| {
                for (name, format) in fields {
                    out.at(name.clone(), |out| check_format(format, out));
                }
            });
        }
    }
}

impl ServiceTracing {
    fn check(&self, out: &mut Findings) {
        if let Some(sampling) = self.sampling {
            check_sampling(sampling, out);
        }
        if let Some(tags) = &self.tags {
            refuse_more("tags", tags.len(), MOST_TAGS, out);
            out.each("tags", tags, |out, tag| tag.check(out));
            out.unique("tags", tags, "name", |tag| tag.name.clone());
        }
        if self.sampling.is_none() && self.tags.is_none() {
            out.add(Code::Required, "it sets nothing").hint("write sampling or tags");
        }
    }
}

impl SpanTag {
    fn check(&self, out: &mut Findings) {
        if self.name.is_empty() {
            out.add_at("name", Code::InvalidValue, "an attribute has a name");
        }
        match (&self.value, &self.header) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) => {
                out.add_at("header", Code::Inconsistent, "a tag has one value")
                    .hint("write value or header, not both");
            }
            (None, None) => {
                out.add(Code::Required, "a tag has a value").hint("write value: TEXT, or header: NAME");
            }
        }
    }
}

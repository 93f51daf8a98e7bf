//! Names of statistics and the ids they have in every shard.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::histogram::Histogram;
use super::shard::{BLOCK, CodesId, CounterId, FREQUENT, GaugeId, HistogramId, StatsSnapshot};

/// Most series a registry gives ids to. What comes after is counted together in `stats.overflow`.
const MAX_SERIES: usize = 200_000;

/// Where a statistic belongs: the prefix of its name and the labels Envoy extracts from it.
#[derive(Clone, Debug)]
pub struct StatsScope {
    prefix: String,
    family: String,
    labels: Vec<(&'static str, Arc<str>)>,
}

impl StatsScope {
    /// `cluster.NAME`.
    pub fn cluster(name: &str) -> Self {
        Self::tagged("cluster", "envoy_cluster_name", name)
    }

    /// `http.PREFIX`: a connection manager with that `stat_prefix`.
    pub fn http(prefix: &str) -> Self {
        Self::tagged("http", "envoy_http_conn_manager_prefix", prefix)
    }

    /// `listener.ADDRESS`, by the listener's `stat_prefix` or its address.
    pub fn listener(address: &str) -> Self {
        Self::tagged("listener", "envoy_listener_address", address)
    }

    /// `tcp.PREFIX`: a TCP proxy with that `stat_prefix`.
    pub fn tcp(prefix: &str) -> Self {
        Self::tagged("tcp", "envoy_tcp_prefix", prefix)
    }

    /// `vhost.HOST.route.PREFIX`: the routes of a virtual host with that `stat_prefix`.
    pub fn route(host: &str, prefix: &str) -> Self {
        Self::tagged("vhost", "envoy_virtual_host", host).tagged_child("route", "envoy_route", prefix)
    }

    /// A plain prefix without labels, such as `server` or `listener_manager`; `PREFIX.rbac` of a network filter too.
    pub fn plain(prefix: &str) -> Self {
        let prefix = sanitize(prefix);
        Self { family: prefix.clone(), prefix, labels: Vec::new() }
    }

    /// A scope below this one, such as `ssl` of a listener.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self {
            prefix: join(&self.prefix, name),
            family: join(&self.family, name),
            labels: self.labels.clone(),
        }
    }

    /// A scope `KIND.NAME` below this one whose name is a label: `http.PREFIX` below a listener.
    #[must_use]
    pub fn tagged_child(&self, kind: &str, label: &'static str, name: &str) -> Self {
        let mut labels = self.labels.clone();
        // Envoy writes the label of the inner name first.
        labels.insert(0, (label, sanitize(name).into()));
        Self {
            prefix: join(&self.prefix, &format!("{kind}.{}", sanitize(name))),
            family: join(&self.family, kind),
            labels,
        }
    }

    /// The text before the last dot of this scope's names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn tagged(kind: &str, label: &'static str, name: &str) -> Self {
        let name = sanitize(name);
        Self { prefix: format!("{kind}.{name}"), family: kind.to_owned(), labels: vec![(label, name.into())] }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// Envoy's rule for names of statistics: colons and control characters become underscores.
fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c == ':' || c.is_control() { '_' } else { c }).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum StatId {
    Counter(u32),
    Gauge(u32),
    Histogram(u32),
}

#[derive(Debug)]
struct Series {
    name: Arc<str>,
    family: Arc<str>,
    labels: Vec<(&'static str, Arc<str>)>,
    slot: StatId,
    hidden: bool,
    /// Shown only when it is not zero, such as one of the many response codes.
    sparse: bool,
}

/// Gives each name its id. Lives on the control thread.
#[derive(Debug, Default)]
pub struct StatsRegistry {
    series: Vec<Series>,
    by_name: HashMap<Arc<str>, usize>,
    blocks: Vec<(StatsScope, String)>,
    blocks_by_name: HashMap<String, CodesId>,
    counters: u32,
    gauges: u32,
    histograms: u32,
}

impl StatsRegistry {
    /// A registry without series.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter `SCOPE.NAME`; the same id each time.
    pub fn counter(&mut self, scope: &StatsScope, name: &str) -> CounterId {
        match self.intern(scope, name, StatId::Counter(self.counters)) {
            StatId::Counter(id) => CounterId(id),
            StatId::Gauge(_) | StatId::Histogram(_) => {
                self.counter(&StatsScope::plain("stats.conflict"), name)
            }
        }
    }

    /// The same, shown only when it is not zero.
    pub fn sparse_counter(&mut self, scope: &StatsScope, name: &str) -> CounterId {
        let id = self.counter(scope, name);
        if let Some(at) = self.by_name.get(join(&scope.prefix, name).as_str()) {
            self.series[*at].sparse = true;
        }
        id
    }

    /// The gauge `SCOPE.NAME`.
    pub fn gauge(&mut self, scope: &StatsScope, name: &str) -> GaugeId {
        match self.intern(scope, name, StatId::Gauge(self.gauges)) {
            StatId::Gauge(id) => GaugeId(id),
            StatId::Counter(_) | StatId::Histogram(_) => {
                self.gauge(&StatsScope::plain("stats.conflict_gauge"), name)
            }
        }
    }

    /// The histogram `SCOPE.NAME`.
    pub fn histogram(&mut self, scope: &StatsScope, name: &str) -> HistogramId {
        match self.intern(scope, name, StatId::Histogram(self.histograms)) {
            StatId::Histogram(id) => HistogramId(id),
            StatId::Counter(_) | StatId::Gauge(_) => {
                self.histogram(&StatsScope::plain("stats.conflict_histogram"), name)
            }
        }
    }

    /// The response code counters `SCOPE.STEM_2xx` and `SCOPE.STEM_200`.
    pub fn codes(&mut self, scope: &StatsScope, stem: &str) -> CodesId {
        let key = join(&scope.prefix, stem);
        if let Some(id) = self.blocks_by_name.get(&key).copied() {
            self.show(&key);
            return id;
        }
        let id = CodesId { block: self.blocks.len() as u32, first: self.counters };
        for class in 1..=5 {
            self.push(scope, &format!("{stem}_{class}xx"), StatId::Counter(self.counters), true);
        }
        for code in FREQUENT {
            self.push(scope, &format!("{stem}_{code}"), StatId::Counter(self.counters), true);
        }
        debug_assert_eq!(self.counters, id.first + BLOCK);
        self.blocks.push((scope.clone(), stem.to_owned()));
        self.blocks_by_name.insert(key, id);
        id
    }

    /// Hides all series below `scope`, for a listener or cluster that is gone. Registering shows them again.
    pub fn hide(&mut self, scope: &StatsScope) {
        let prefix = join(&scope.prefix, "");
        self.series
            .iter_mut()
            .filter(|series| series.name.starts_with(&prefix))
            .for_each(|s| s.hidden = true);
    }

    /// How many series have an id.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether no series has an id.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Every visible series with its value, sorted by name.
    pub fn readings<'a>(&'a self, totals: &'a StatsSnapshot) -> Vec<SeriesReading<'a>> {
        let mut readings: Vec<SeriesReading<'a>> = self
            .series
            .iter()
            .filter(|series| !series.hidden)
            .filter_map(|series| {
                let value = match series.slot {
                    StatId::Counter(id) => StatValue::Counter(totals.counter(CounterId(id))),
                    StatId::Gauge(id) => StatValue::Gauge(totals.gauge(GaugeId(id))),
                    StatId::Histogram(id) => StatValue::Histogram(totals.histogram(HistogramId(id))),
                };
                if series.sparse && matches!(value, StatValue::Counter(0)) {
                    return None;
                }
                let labels = series.labels.clone();
                Some(SeriesReading {
                    name: series.name.clone(),
                    family: series.family.clone(),
                    labels,
                    value,
                })
            })
            .collect();
        readings.extend(self.rare_codes(totals));
        readings.sort_by(|a, b| a.name.cmp(&b.name));
        readings
    }

    fn rare_codes<'a>(&'a self, totals: &'a StatsSnapshot) -> impl Iterator<Item = SeriesReading<'a>> + 'a {
        totals.0.rare_codes.iter().filter_map(|((block, code), count)| {
            let (scope, stem) = self.blocks.get(*block as usize)?;
            let first = self.blocks_by_name.get(&join(&scope.prefix, stem))?.first;
            let hidden =
                self.series.iter().any(|series| series.slot == StatId::Counter(first) && series.hidden);
            let (family, labels) = exposition(scope, &format!("{stem}_{code}"));
            let name = join(&scope.prefix, &format!("{stem}_{code}")).into();
            (!hidden).then_some(SeriesReading {
                name,
                family: family.into(),
                labels,
                value: StatValue::Counter(*count),
            })
        })
    }

    fn show(&mut self, prefix: &str) {
        let block = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_'));
        self.series
            .iter_mut()
            .filter(|s| s.hidden && s.sparse && block(&s.name))
            .for_each(|s| s.hidden = false);
    }

    fn intern(&mut self, scope: &StatsScope, name: &str, fresh: StatId) -> StatId {
        let full = join(&scope.prefix, name);
        if let Some(at) = self.by_name.get(full.as_str()) {
            let series = &mut self.series[*at];
            series.hidden = false;
            return series.slot;
        }
        if self.series.len() >= MAX_SERIES {
            return self.overflow(fresh);
        }
        self.push(scope, name, fresh, false)
    }

    fn overflow(&mut self, wanted: StatId) -> StatId {
        let name = match wanted {
            StatId::Counter(_) => "overflow",
            StatId::Gauge(_) => "overflow_gauge",
            StatId::Histogram(_) => "overflow_histogram",
        };
        match self.by_name.get(join("stats", name).as_str()) {
            Some(at) => self.series[*at].slot,
            None => self.push(&StatsScope::plain("stats"), name, wanted, true),
        }
    }

    fn push(&mut self, scope: &StatsScope, name: &str, slot: StatId, sparse: bool) -> StatId {
        match slot {
            StatId::Counter(_) => self.counters += 1,
            StatId::Gauge(_) => self.gauges += 1,
            StatId::Histogram(_) => self.histograms += 1,
        }
        let full: Arc<str> = join(&scope.prefix, name).into();
        let (family, labels) = exposition(scope, name);
        self.by_name.insert(full.clone(), self.series.len());
        self.series.push(Series { name: full, family: family.into(), labels, slot, hidden: false, sparse });
        slot
    }
}

/// One series at one moment.
#[derive(Clone, Debug)]
pub struct SeriesReading<'a> {
    /// Envoy's name: `cluster.web.upstream_rq_2xx`.
    pub name: Arc<str>,
    /// The Prometheus name: `envoy_cluster_upstream_rq_xx`.
    pub family: Arc<str>,
    /// The labels, in Envoy's order.
    pub labels: Vec<(&'static str, Arc<str>)>,
    pub value: StatValue<'a>,
}

/// A value of a series.
#[derive(Clone, Copy, Debug)]
pub enum StatValue<'a> {
    Counter(u64),
    Gauge(i64),
    /// A distribution; `None` when nothing was recorded.
    Histogram(Option<&'a Histogram>),
}

/// The Prometheus name and labels: the response code and its class become labels, as Envoy's tag extraction does.
fn exposition(scope: &StatsScope, name: &str) -> (String, Vec<(&'static str, Arc<str>)>) {
    let mut labels = Vec::with_capacity(scope.labels.len() + 1);
    let mut stem = name.to_owned();
    if let Some((head, tail)) = name.rsplit_once('_') {
        let code = tail.as_bytes();
        if code.len() == 3 && code[0].is_ascii_digit() && head.ends_with("_rq") {
            if &code[1..] == b"xx" {
                labels.push(("envoy_response_code_class", tail[..1].into()));
                stem = format!("{head}_xx");
            } else if code.iter().all(u8::is_ascii_digit) {
                labels.push(("envoy_response_code", tail.into()));
                stem = head.to_owned();
            }
        }
    }
    labels.extend(scope.labels.iter().cloned());
    let mut family = String::with_capacity(scope.family.len() + stem.len() + 7);
    let _ = write!(family, "envoy_{}", join(&scope.family, &stem));
    let family =
        family.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    (family, labels)
}

#[cfg(test)]
mod tests {
    use super::super::shard::Shard;
    use super::*;

    fn names(registry: &StatsRegistry, totals: &StatsSnapshot) -> Vec<String> {
        registry.readings(totals).iter().map(|reading| reading.name.to_string()).collect()
    }

    #[test]
    fn gives_one_name_the_same_id_again() {
        let mut registry = StatsRegistry::new();
        let scope = StatsScope::cluster("web");
        let first = registry.counter(&scope, "upstream_cx_total");
        assert_eq!(registry.counter(&scope, "upstream_cx_total"), first);
        assert_ne!(registry.counter(&StatsScope::cluster("cart"), "upstream_cx_total"), first);
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn turns_the_response_code_into_a_label() {
        let (family, labels) = exposition(&StatsScope::cluster("a.b:c"), "upstream_rq_2xx");
        assert_eq!(family, "envoy_cluster_upstream_rq_xx");
        assert_eq!(labels[0], ("envoy_response_code_class", "2".into()));
        assert_eq!(labels[1], ("envoy_cluster_name", "a.b_c".into()));
        let (family, labels) = exposition(&StatsScope::cluster("w"), "upstream_rq_503");
        assert_eq!((family.as_str(), &*labels[0].1), ("envoy_cluster_upstream_rq", "503"));
        let (family, labels) = exposition(&StatsScope::http("in"), "downstream_cx_http1_total");
        assert_eq!((family.as_str(), labels.len()), ("envoy_http_downstream_cx_http1_total", 1));
    }

    #[test]
    fn the_inner_name_of_a_nested_scope_is_the_first_label() {
        let scope =
            StatsScope::listener("127.0.0.1:80").tagged_child("http", "envoy_http_conn_manager_prefix", "in");
        let (family, labels) = exposition(&scope, "downstream_rq_5xx");
        assert_eq!(family, "envoy_listener_http_downstream_rq_xx");
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            labels,
            [
                "envoy_response_code_class=5",
                "envoy_http_conn_manager_prefix=in",
                "envoy_listener_address=127.0.0.1_80"
            ]
        );
    }

    #[test]
    fn shows_a_response_code_only_after_it_came() {
        let mut registry = StatsRegistry::new();
        let codes = registry.codes(&StatsScope::cluster("web"), "upstream_rq");
        assert!(names(&registry, &StatsSnapshot::default()).is_empty());
        let shard = Shard::default();
        shard.response_code(codes, 200);
        shard.response_code(codes, 418);
        let totals = StatsSnapshot::sum([&shard.collect()]);
        assert_eq!(
            names(&registry, &totals),
            ["upstream_rq_200", "upstream_rq_2xx", "upstream_rq_418", "upstream_rq_4xx"]
                .map(|name| format!("cluster.web.{name}"))
        );
    }

    #[test]
    fn hides_the_series_of_a_removed_cluster_and_shows_them_when_it_returns() {
        let mut registry = StatsRegistry::new();
        let (web, website) = (StatsScope::cluster("web"), StatsScope::cluster("website"));
        let id = registry.counter(&web, "upstream_cx_total");
        registry.counter(&website, "upstream_cx_total");
        registry.hide(&web);
        assert_eq!(names(&registry, &StatsSnapshot::default()), ["cluster.website.upstream_cx_total"]);
        assert_eq!(registry.counter(&web, "upstream_cx_total"), id);
        assert_eq!(names(&registry, &StatsSnapshot::default()).len(), 2);
    }
}

//! Findings on their way to a caller: whose they are, and how many are told.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weft_api::rest::{CheckFinding, CheckSeverity};
use weft_policies::kinds::role::ApiKind;

use super::code::{CheckArea, CheckCode};
use crate::api::rights::CallerRights;

/// Findings of one code that are told.
const MOST: usize = 20;

/// What is found, and who may read it.
#[derive(Debug)]
pub struct Concern {
    pub code: CheckCode,
    pub finding: CheckFinding,
    /// To read things of this kind takes a right; in the namespace of the finding's place, or everywhere.
    pub kind: ApiKind,
    pub namespace: Option<String>,
}

/// A finding of one replica about itself, as it tells the one that was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnFinding {
    /// By [`CheckCode::as_str`]; one that the asking replica does not know is told all the same.
    pub area: String,
    pub finding: CheckFinding,
}

impl Concern {
    /// Something about a workload, a service or a document of a namespace.
    pub fn of(code: CheckCode, severity: CheckSeverity, kind: ApiKind, place: impl Into<String>) -> Self {
        let place = place.into();
        // `KIND NAMESPACE/NAME`, or `NAMESPACE/NAME`.
        let id = place.rsplit(' ').next().unwrap_or_default();
        let namespace = id.split_once('/').map(|(namespace, _)| namespace.to_owned());
        let code_text = code.as_str().to_owned();
        let finding = CheckFinding { code: code_text, severity, place, ..CheckFinding::default() };
        Self { code, finding, kind, namespace }
    }

    /// Something about the whole mesh: for those who may look at all proxies.
    pub fn of_the_mesh(code: CheckCode, severity: CheckSeverity, place: impl Into<String>) -> Self {
        Self { namespace: None, ..Self::of(code, severity, ApiKind::Proxy, place) }
    }

    pub fn says(mut self, what: impl Into<String>) -> Self {
        self.finding.what = what.into();
        self
    }

    /// What to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.finding.remedy = Some(remedy.into());
        self
    }

    fn is_for(&self, rights: &CallerRights) -> bool {
        rights.may_read(self.kind, self.namespace.as_deref().unwrap_or_default())
    }

    /// As it is told to another replica.
    pub fn into_own(self) -> OwnFinding {
        OwnFinding { area: self.code.area().word().to_owned(), finding: self.finding }
    }
}

/// What a caller is told.
#[derive(Debug, Default)]
pub struct ToldFindings {
    pub findings: Vec<CheckFinding>,
    pub omitted: BTreeMap<String, usize>,
    /// Areas in which something is wrong or not known.
    troubled: BTreeSet<String>,
}

impl ToldFindings {
    /// Takes those that a caller may read.
    pub fn take(&mut self, concerns: Vec<Concern>, rights: &CallerRights) {
        let seen = concerns.into_iter().filter(|concern| concern.is_for(rights));
        self.take_own(seen.map(Concern::into_own).collect());
    }

    /// Takes what replicas say of themselves.
    pub fn take_own(&mut self, found: Vec<OwnFinding>) {
        for OwnFinding { area, finding } in found {
            if finding.severity != CheckSeverity::Ok {
                self.troubled.insert(area);
            }
            self.findings.push(finding);
        }
    }

    /// Says of each area without a finding what was looked at.
    pub fn add_what_is_well(&mut self, looked_at: &BTreeMap<CheckArea, String>) {
        for area in CheckArea::ALL.into_iter().filter(|area| !self.troubled.contains(area.word())) {
            if let Some(what) = looked_at.get(&area) {
                self.findings.push(CheckFinding {
                    code: area.word().to_owned(),
                    severity: CheckSeverity::Ok,
                    what: what.clone(),
                    ..CheckFinding::default()
                });
            }
        }
    }

    /// The worst first, what several replicas find of one thing once, and no more of one code than a person reads.
    pub fn finish(mut self) -> Self {
        let mut seen = BTreeSet::new();
        self.findings
            .retain(|found| seen.insert((found.code.clone(), found.place.clone(), found.what.clone())));
        self.findings.sort_by_key(|finding| finding.severity);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        self.findings.retain(|finding| {
            let count = counts.entry(finding.code.clone()).or_default();
            *count += 1;
            *count <= MOST
        });
        let over = counts.into_iter().filter(|(_, count)| *count > MOST);
        self.omitted = over.map(|(code, count)| (code, count - MOST)).collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_policies::kinds::role::effect::Rights;

    use super::*;

    fn away(place: &str) -> Concern {
        Concern::of(CheckCode::ProxyAway, CheckSeverity::Failure, ApiKind::Proxy, place).says("gone")
    }

    #[test]
    fn what_somebody_may_not_read_is_left_out() {
        let nobody = CallerRights(Arc::new(Rights::Rules(Vec::new())));
        let operator = CallerRights(Arc::new(Rights::All));
        for (rights, count) in [(&nobody, 0), (&operator, 2)] {
            let mut told = ToldFindings::default();
            let all = Concern::of_the_mesh(CheckCode::StoreAway, CheckSeverity::Failure, "one");
            told.take(vec![away("shop/web-1"), all], rights);
            assert_eq!(told.findings.len(), count);
        }
    }

    #[test]
    fn more_than_a_person_reads_are_counted_and_areas_without_trouble_are_told() {
        let operator = CallerRights(Arc::new(Rights::All));
        let mut told = ToldFindings::default();
        let drained = Concern::of(CheckCode::DefaultAllow, CheckSeverity::Ok, ApiKind::Proxy, "");
        told.take(vec![drained], &operator);
        // As two replicas would find it.
        told.take(vec![away("shop/web-1")], &operator);
        told.take((0..23).map(|number| away(&format!("shop/web-{number}"))).collect(), &operator);
        let looked_at = CheckArea::ALL.map(|area| (area, "all".to_owned())).into();
        told.add_what_is_well(&looked_at);
        let told = told.finish();
        assert_eq!(told.omitted, BTreeMap::from([("proxy_away".to_owned(), 3)]));
        assert_eq!(told.findings[0].severity, CheckSeverity::Failure);
        let is_told = |code: &str| told.findings.iter().any(|finding| finding.code == code);
        assert!(is_told("policies") && is_told("store") && !is_told("proxies"));
    }
}

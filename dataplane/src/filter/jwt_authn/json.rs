//! JSON of tokens and keys, read in one way only: a name that stands twice in an object is an error, since readers differ
//! in which one they believe.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use weft_routing::metadata::{MetadataFields, MetadataValue};

/// Reads an object; `None` where the text is no object, or can be read in several ways. How deep it may go is bounded by the
/// parser, at 128.
pub(super) fn object(text: &[u8]) -> Option<MetadataFields> {
    match serde_json::from_slice::<Strict>(text).ok()?.0 {
        MetadataValue::Struct(fields) => Some(fields),
        MetadataValue::Null
        | MetadataValue::Bool(_)
        | MetadataValue::Number(_)
        | MetadataValue::Text(_)
        | MetadataValue::List(_) => None,
    }
}

/// The value as JSON again.
pub(super) fn written(value: &MetadataValue) -> serde_json::Value {
    match value {
        MetadataValue::Null => serde_json::Value::Null,
        MetadataValue::Bool(value) => (*value).into(),
        MetadataValue::Number(value) => match whole(*value) {
            Some(whole) => whole.into(),
            None => (*value).into(),
        },
        MetadataValue::Text(text) => (**text).into(),
        MetadataValue::List(elements) => elements.iter().map(written).collect(),
        MetadataValue::Struct(fields) => {
            let each = fields.iter().map(|(name, value)| (name.to_string(), written(value)));
            serde_json::Value::Object(each.collect())
        }
    }
}

/// The number, where it is whole and fits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "looked at before")]
pub(super) fn whole(value: f64) -> Option<u64> {
    // 2^64, the first that does not fit.
    let fits = (0.0..18_446_744_073_709_551_616.0).contains(&value) && value.fract() == 0.0;
    fits.then_some(value as u64)
}

struct Strict(MetadataValue);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = MetadataValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers are doubles, as in Envoy")]
    fn visit_u64<E>(self, value: u64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers are doubles, as in Envoy")]
    fn visit_i64<E>(self, value: i64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<MetadataValue, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(MetadataValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<MetadataValue, A::Error> {
        let mut fields = MetadataFields::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if fields.insert(name.into(), value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(MetadataValue::Struct(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_in_one_way_or_not_at_all() {
        let read = object(br#"{"a":1,"b":["x",null,true,-2.5],"c":{"d":{}}}"#).unwrap();
        assert_eq!(
            written(&MetadataValue::Struct(read)).to_string(),
            r#"{"a":1,"b":["x",null,true,-2.5],"c":{"d":{}}}"#
        );
        for wrong in [
            &br#"{"a":1,"a":2}"#[..],
            br#"{"b":{"a":1,"a":1}}"#,
            br#"[{"a":1}]"#,
            br#"{"a":1} "#.strip_suffix(b"} ").unwrap(),
            br#"{"a":1}{}"#,
            br#"{'a':1}"#,
            br#"{"a":1,}"#,
            b"{\"a\":\"\xff\"}",
            b"",
            b"null",
        ] {
            assert_eq!(object(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000));
        assert_eq!(object(deep.as_bytes()), None);
    }

    #[test]
    fn a_number_is_whole_where_it_fits() {
        assert_eq!(whole(0.0), Some(0));
        assert_eq!(whole(1.5), None);
        assert_eq!(whole(-1.0), None);
        assert_eq!(whole(18_446_744_073_709_551_616.0), None);
    }
}

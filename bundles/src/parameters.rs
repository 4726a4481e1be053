//! Values that the director chooses, checked against what the release declares.

use std::collections::BTreeMap;

use crate::accept::EntryRefusal;
use crate::code::Code;
use crate::document::release::{ParameterDeclaration, ParameterType, Scalar};
use crate::ids::Name;

/// Checks every value against its declaration.
///
/// # Errors
/// [`Code::ParameterUndeclared`] and [`Code::ParameterOutside`], with the parameter's name.
pub fn check_values(
    declared: &BTreeMap<Name, ParameterDeclaration>,
    values: &BTreeMap<Name, Scalar>,
) -> Result<(), EntryRefusal> {
    #[cfg(feature = "mutations")]
    if crate::mutation::is(crate::mutation::Mutation::AnyValue) {
        return Ok(());
    }
    for (name, value) in values {
        let Some(declaration) = declared.get(name) else {
            return Err(EntryRefusal { code: Code::ParameterUndeclared, detail: name.to_string() });
        };
        check_value(declaration, value).map_err(|fault| EntryRefusal {
            code: Code::ParameterOutside,
            detail: format!("{name}: {fault}"),
        })?;
    }
    Ok(())
}

/// Checks one value: type, list, range, length and pattern.
///
/// # Errors
/// The bound that it breaks, in words.
pub fn check_value(declaration: &ParameterDeclaration, value: &Scalar) -> Result<(), String> {
    if !declaration.choices.is_empty() {
        let listed = declaration.choices.contains(value);
        return if listed { Ok(()) } else { Err("is not one of the listed values".into()) };
    }
    match (declaration.kind, value) {
        (ParameterType::Boolean, Scalar::Boolean(_)) => Ok(()),
        (ParameterType::Integer, Scalar::Integer(number)) => {
            let (min, max) = (declaration.min.unwrap_or(i64::MAX), declaration.max.unwrap_or(i64::MIN));
            if (min..=max).contains(number) {
                Ok(())
            } else {
                Err(format!("{number} is not within {min} to {max}"))
            }
        }
        (ParameterType::String, Scalar::String(text)) => {
            let longest = declaration.max_length.unwrap_or(0);
            if text.len() > longest {
                return Err(format!("{} bytes, at most {longest}", text.len()));
            }
            let pattern = declaration.pattern.as_deref().unwrap_or_default();
            let whole =
                regex_lite::Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(|error| error.to_string())?;
            if whole.is_match(text) { Ok(()) } else { Err(format!("does not match {pattern}")) }
        }
        (kind, _) => Err(format!("is not of type {kind:?}").to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(json: &str) -> ParameterDeclaration {
        let target = r#""targets":[{"apiVersion":"v1","kind":"ConfigMap","namespace":"a","name":"b","pointer":"/data/x"}]"#;
        let declaration: ParameterDeclaration =
            serde_json::from_str(&format!("{{{json},{target}}}")).unwrap();
        declaration.check().unwrap();
        declaration
    }

    #[test]
    fn patterns_match_the_whole_text() {
        let declaration = declaration(r#""type":"string","pattern":"a|bc","max_length":4"#);
        for (text, good) in
            [("a", true), ("bc", true), ("abc", false), ("a\n", false), ("", false), ("aaaaa", false)]
        {
            assert_eq!(check_value(&declaration, &Scalar::String(text.into())).is_ok(), good, "{text:?}");
        }
        assert!(check_value(&declaration, &Scalar::Integer(1)).is_err());
    }

    #[test]
    fn a_pattern_that_leaves_its_anchors_is_no_declaration() {
        let mut declaration = declaration(r#""type":"string","pattern":"a","max_length":4"#);
        declaration.pattern = Some("a)|(?:.*".into());
        assert!(declaration.check().is_err());
    }

    #[test]
    fn numbers_stay_in_range_and_lists_are_exact() {
        let range = declaration(r#""type":"integer","min":1,"max":5"#);
        assert!(check_value(&range, &Scalar::Integer(5)).is_ok());
        assert!(check_value(&range, &Scalar::Integer(6)).is_err());
        let list = declaration(r#""type":"string","enum":["x","y"]"#);
        assert!(check_value(&list, &Scalar::String("y".into())).is_ok());
        assert!(check_value(&list, &Scalar::String("z".into())).is_err());
    }

    #[test]
    fn an_undeclared_parameter_is_refused_by_name() {
        let values = BTreeMap::from([(Name::new("colour").unwrap(), Scalar::Boolean(true))]);
        assert_eq!(check_values(&BTreeMap::new(), &values).unwrap_err().code, Code::ParameterUndeclared);
    }
}

//! The fields of an object, read one by one, each with what is wrong with it.

use queue_core::Millis;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, value::RawValue};
use service::{FieldError, wording};

use crate::json::{Object, cut, is_absent};

/// Reads one field, and notes what is wrong with it. One that is null counts as absent: nothing is read, and nothing is wrong.
pub(crate) struct Reader<'a> {
    pub(crate) pointer: &'a str,
    pub(crate) name: &'a str,
    pub(crate) value: &'a RawValue,
    pub(crate) errors: &'a mut Vec<FieldError>,
}

impl Reader<'_> {
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        self.read_checked(|_| Ok::<_, &str>(()))
    }

    /// A duration from 1 ms to the longest; `range` says so.
    pub(crate) fn read_duration(&mut self, longest: Millis, range: &'static str) -> Option<Millis> {
        self.read_checked(
            |duration: &Millis| if duration.is_zero() || *duration > longest { Err(range) } else { Ok(()) },
        )
    }

    /// An object, whose own fields may be null too. It could be read from a list of its members as well, and is not.
    pub(crate) fn read_object<T: DeserializeOwned>(
        &mut self,
        check: impl Fn(&T) -> Result<(), &'static str>,
    ) -> Option<T> {
        let value = self.value;
        self.read_by(
            || {
                let Object(fields) = serde_json::from_str(value.get())?;
                let given = fields.into_iter().filter(|(_, value)| !is_absent(value));
                let given: Map<String, Value> = given
                    .map(|(name, value)| Ok((name.into_owned(), serde_json::from_str(value.get())?)))
                    .collect::<Result<_, serde_json::Error>>()?;
                T::deserialize(Value::Object(given))
            },
            check,
        )
    }

    pub(crate) fn read_checked<T: DeserializeOwned, E: Into<String>>(
        &mut self,
        check: impl Fn(&T) -> Result<(), E>,
    ) -> Option<T> {
        let value = self.value;
        self.read_by(|| serde_json::from_str(value.get()), check)
    }

    /// Reads the value in a way of its own.
    pub(crate) fn read_by<T, E: Into<String>>(
        &mut self,
        read: impl FnOnce() -> Result<T, serde_json::Error>,
        check: impl Fn(&T) -> Result<(), E>,
    ) -> Option<T> {
        if is_absent(self.value) {
            return None;
        }
        let checked = read()
            .map_err(|error| wording::of_value(&error))
            .and_then(|value| check(&value).map(|()| value).map_err(E::into));
        checked.map_err(|detail| self.errors.push(field_error(self.pointer, self.name, detail))).ok()
    }
}

/// What is wrong with the field `name` of the object at `pointer`.
pub(crate) fn field_error(pointer: &str, name: &str, detail: String) -> FieldError {
    let name = cut(name).replace('~', "~0").replace('/', "~1");
    FieldError { pointer: format!("{pointer}/{name}"), detail }
}

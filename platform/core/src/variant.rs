//! A value that says of what type it is (J2).

use std::collections::BTreeMap;

use outrigger_platform_flatbuffers::{
    Invalid, MAX_NESTING, WIPOffset,
    flatbuffers::{FlatBufferBuilder, UnionWIPOffset},
    read_variant,
    variant::{
        self as fb, ArrayValueArgs, BoolValueArgs, DictionaryValueArgs, Int32ValueArgs, KeyValuePairArgs,
        NoneValueArgs, StringValueArgs, VariantArgs, VariantType, VariantValue,
    },
    write,
};

/// A value of one of six types; the type never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Variant {
    /// No value.
    #[default]
    None,
    /// True or false.
    Bool(bool),
    /// 32 bits with a sign.
    Int32(i32),
    /// Text.
    String(String),
    /// Values by name, in the order of their names.
    Dictionary(BTreeMap<String, Variant>),
    /// Values one after the other.
    Array(Vec<Variant>),
}

/// The types, by the numbers of the contract (R7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`Variant::None`].
    None = 0,
    /// [`Variant::Bool`].
    Bool = 1,
    /// [`Variant::Int32`].
    Int32 = 2,
    /// [`Variant::String`].
    String = 3,
    /// [`Variant::Dictionary`].
    Dictionary = 4,
    /// [`Variant::Array`].
    Array = 5,
}

/// Why a variant is not the value that was asked for, or a value no variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariantError {
    /// It is of another type.
    #[error("the variant is {found:?}, not {expected:?}")]
    WrongType {
        /// What was asked for.
        expected: Kind,
        /// What it is.
        found: Kind,
    },
    /// The number does not fit; nothing is ever cut off (Z41).
    #[error("{value} does not fit into {into}")]
    OutOfRange {
        /// The number.
        value: i128,
        /// Rust's name of the type.
        into: &'static str,
    },
}

/// Why a variant has no binary form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("variants stand in one another more than {MAX_NESTING} deep")]
pub struct EncodeError;

/// Why bytes are no variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the table.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The table says one type and holds another, or one that is not known.
    #[error("the type is {0}, the value is not")]
    Type(u8),
    /// A name is there twice.
    #[error("a dictionary has {0:?} twice")]
    Twice(String),
    /// More than [`MAX_NESTING`].
    #[error("variants stand in one another more than {MAX_NESTING} deep")]
    Deep,
}

impl Variant {
    /// Of what type it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::None => Kind::None,
            Self::Bool(_) => Kind::Bool,
            Self::Int32(_) => Kind::Int32,
            Self::String(_) => Kind::String,
            Self::Dictionary(_) => Kind::Dictionary,
            Self::Array(_) => Kind::Array,
        }
    }

    /// The binary form (`variant.fbs`); equal variants have equal bytes.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        if !self.shallower_than(MAX_NESTING) {
            return Err(EncodeError);
        }
        Ok(write(|builder| self.build(builder)))
    }

    /// Reads the binary form, whoever wrote it.
    ///
    /// # Errors
    /// [`DecodeError`]; bytes of strangers do no harm.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        read(read_variant(bytes)?, MAX_NESTING)
    }

    fn shallower_than(&self, nesting: usize) -> bool {
        let Some(nesting) = nesting.checked_sub(1) else {
            return false;
        };
        match self {
            Self::Dictionary(entries) => entries.values().all(|value| value.shallower_than(nesting)),
            Self::Array(elements) => elements.iter().all(|value| value.shallower_than(nesting)),
            _ => true,
        }
    }

    fn build<'b>(&self, builder: &mut FlatBufferBuilder<'b>) -> WIPOffset<fb::Variant<'b>> {
        let (value_type, value): (_, WIPOffset<UnionWIPOffset>) = match self {
            Self::None => (
                VariantValue::NoneValue,
                fb::NoneValue::create(builder, &NoneValueArgs {}).as_union_value(),
            ),
            Self::Bool(value) => (
                VariantValue::BoolValue,
                fb::BoolValue::create(builder, &BoolValueArgs { value: *value }).as_union_value(),
            ),
            Self::Int32(value) => (
                VariantValue::Int32Value,
                fb::Int32Value::create(builder, &Int32ValueArgs { value: *value }).as_union_value(),
            ),
            Self::String(text) => {
                let value = Some(builder.create_string(text));
                (
                    VariantValue::StringValue,
                    fb::StringValue::create(builder, &StringValueArgs { value }).as_union_value(),
                )
            }
            Self::Dictionary(entries) => {
                let pairs: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| {
                        let value = Some(value.build(builder));
                        let key = Some(builder.create_string(key));
                        fb::KeyValuePair::create(builder, &KeyValuePairArgs { key, value })
                    })
                    .collect();
                let entries = Some(builder.create_vector(&pairs));
                (
                    VariantValue::DictionaryValue,
                    fb::DictionaryValue::create(builder, &DictionaryValueArgs { entries }).as_union_value(),
                )
            }
            Self::Array(elements) => {
                let elements: Vec<_> = elements.iter().map(|element| element.build(builder)).collect();
                let elements = Some(builder.create_vector(&elements));
                (
                    VariantValue::ArrayValue,
                    fb::ArrayValue::create(builder, &ArrayValueArgs { elements }).as_union_value(),
                )
            }
        };
        fb::Variant::create(
            builder,
            &VariantArgs {
                type_: VariantType(self.kind() as u8),
                value_type,
                value: Some(value),
            },
        )
    }
}

fn read(table: fb::Variant<'_>, nesting: usize) -> Result<Variant, DecodeError> {
    let nesting = nesting.checked_sub(1).ok_or(DecodeError::Deep)?;
    let kind = table.type_();
    let other = || DecodeError::Type(kind.0);
    Ok(match kind {
        VariantType::None => {
            table.value_as_none_value().ok_or_else(other)?;
            Variant::None
        }
        VariantType::Bool => Variant::Bool(table.value_as_bool_value().ok_or_else(other)?.value()),
        VariantType::Int32 => Variant::Int32(table.value_as_int_32_value().ok_or_else(other)?.value()),
        VariantType::String => Variant::String(
            table
                .value_as_string_value()
                .ok_or_else(other)?
                .value()
                .to_owned(),
        ),
        VariantType::Dictionary => {
            let mut entries = BTreeMap::new();
            for pair in table.value_as_dictionary_value().ok_or_else(other)?.entries() {
                let value = read(pair.value(), nesting)?;
                if entries.insert(pair.key().to_owned(), value).is_some() {
                    return Err(DecodeError::Twice(pair.key().to_owned()));
                }
            }
            Variant::Dictionary(entries)
        }
        VariantType::Array => {
            let elements = table.value_as_array_value().ok_or_else(other)?.elements();
            Variant::Array(
                elements
                    .iter()
                    .map(|element| read(element, nesting))
                    .collect::<Result<_, _>>()?,
            )
        }
        _ => return Err(other()),
    })
}

impl From<()> for Variant {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl From<bool> for Variant {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Variant {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Variant {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl<T: Into<Variant>> From<Option<T>> for Variant {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

impl<T: Into<Variant>> From<Vec<T>> for Variant {
    fn from(values: Vec<T>) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<String>, T: Into<Variant>> From<BTreeMap<K, T>> for Variant {
    fn from(entries: BTreeMap<K, T>) -> Self {
        Self::Dictionary(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

/// Numbers that always fit.
macro_rules! small {
    ($($type:ty),*) => {$(
        impl From<$type> for Variant {
            fn from(value: $type) -> Self {
                Self::Int32(i32::from(value))
            }
        }
    )*};
}
small!(i8, i16, i32, u8, u16);

/// Numbers that may not fit.
macro_rules! large {
    ($($type:ty),*) => {$(
        impl TryFrom<$type> for Variant {
            type Error = VariantError;

            fn try_from(value: $type) -> Result<Self, VariantError> {
                i32::try_from(value).map(Self::Int32).map_err(|_| VariantError::OutOfRange {
                    value: value as i128,
                    into: "i32",
                })
            }
        }
    )*};
}
large!(i64, u32, u64, isize, usize);

/// Numbers out of a variant.
macro_rules! out {
    ($($type:ident),*) => {$(
        impl TryFrom<Variant> for $type {
            type Error = VariantError;

            fn try_from(variant: Variant) -> Result<Self, VariantError> {
                match variant {
                    Variant::Int32(value) => Self::try_from(value).map_err(|_| VariantError::OutOfRange {
                        value: i128::from(value),
                        into: stringify!($type),
                    }),
                    other => Err(wrong(Kind::Int32, &other)),
                }
            }
        }
    )*};
}
out!(i8, i16, i32, i64, u8, u16, u32, u64, usize);

fn wrong(expected: Kind, found: &Variant) -> VariantError {
    VariantError::WrongType {
        expected,
        found: found.kind(),
    }
}

/// What is no number, out of a variant.
macro_rules! take {
    ($($type:ty => $kind:ident),*) => {$(
        impl TryFrom<Variant> for $type {
            type Error = VariantError;

            fn try_from(variant: Variant) -> Result<Self, VariantError> {
                match variant {
                    Variant::$kind(value) => Ok(value),
                    other => Err(wrong(Kind::$kind, &other)),
                }
            }
        }
    )*};
}
take!(bool => Bool, String => String, BTreeMap<String, Variant> => Dictionary, Vec<Variant> => Array);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variants() -> impl Strategy<Value = Variant> {
        let leaf = prop_oneof![
            Just(Variant::None),
            any::<bool>().prop_map(Variant::Bool),
            any::<i32>().prop_map(Variant::Int32),
            ".*".prop_map(Variant::String),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Variant::Array),
                proptest::collection::btree_map(".{0,5}", inner, 0..6).prop_map(Variant::Dictionary),
            ]
        })
    }

    proptest! {
        /// J2.2.
        #[test]
        fn the_binary_form_gives_an_equal_value_back(variant in variants()) {
            let bytes = variant.to_bytes().unwrap();
            prop_assert_eq!(Variant::from_bytes(&bytes).unwrap(), variant);
        }

        #[test]
        fn equal_variants_have_equal_bytes(entries in proptest::collection::vec((".{0,5}", any::<i32>()), 0..9)) {
            let forward: BTreeMap<_, _> = entries.iter().cloned().collect();
            let mut backward = BTreeMap::new();
            for (key, _) in entries.iter().rev() {
                backward.insert(key.clone(), forward[key]);
            }
            prop_assert_eq!(Variant::from(forward).to_bytes(), Variant::from(backward).to_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Variant::from_bytes(&bytes);
        }

        #[test]
        fn a_changed_byte_does_not_panic(variant in variants(), place in any::<proptest::sample::Index>(), byte: u8) {
            let mut bytes = variant.to_bytes().unwrap();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = Variant::from_bytes(&bytes);
        }

        /// J2.3.
        #[test]
        fn numbers_fit_or_are_refused(number: i64) {
            match i32::try_from(number) {
                Ok(small) => prop_assert_eq!(Variant::try_from(number), Ok(Variant::Int32(small))),
                Err(_) => prop_assert_eq!(
                    Variant::try_from(number),
                    Err(VariantError::OutOfRange { value: i128::from(number), into: "i32" })
                ),
            }
        }
    }

    /// J2.1, J2.3.
    #[test]
    fn values_go_in_and_come_out_as_what_they_are() {
        assert_eq!(bool::try_from(Variant::from(true)), Ok(true));
        assert_eq!(i32::try_from(Variant::from(-7)), Ok(-7));
        assert_eq!(i64::try_from(Variant::from(7u16)), Ok(7));
        assert_eq!(String::try_from(Variant::from("a")), Ok("a".to_owned()));
        assert_eq!(Variant::from(None::<bool>), Variant::from(()));
        let array = Variant::from(vec![1, 2]);
        assert_eq!(
            Vec::try_from(array),
            Ok(vec![Variant::Int32(1), Variant::Int32(2)])
        );
        let entries = BTreeMap::from([("k", "v")]);
        assert!(
            BTreeMap::try_from(Variant::from(entries))
                .unwrap()
                .contains_key("k")
        );
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        let error = i32::try_from(Variant::from("7")).unwrap_err();
        assert_eq!(error.to_string(), "the variant is String, not Int32");
        assert!(bool::try_from(Variant::Int32(1)).is_err());
        assert!(String::try_from(Variant::None).is_err());
        let error = u8::try_from(Variant::Int32(-1)).unwrap_err();
        assert_eq!(error.to_string(), "-1 does not fit into u8");
        assert!(Variant::try_from(u32::MAX).is_err());
    }

    fn nested(depth: usize) -> Variant {
        (1..depth).fold(Variant::Int32(1), |inner, level| {
            if level % 2 == 0 {
                Variant::Array(vec![inner])
            } else {
                Variant::Dictionary(BTreeMap::from([("k".to_owned(), inner)]))
            }
        })
    }

    #[test]
    fn nesting_has_a_bound_on_both_sides() {
        let deepest = nested(MAX_NESTING);
        assert_eq!(Variant::from_bytes(&deepest.to_bytes().unwrap()), Ok(deepest));
        let deeper = nested(MAX_NESTING + 1);
        assert_eq!(deeper.to_bytes(), Err(EncodeError));
        let bytes = write(|builder| deeper.build(builder));
        assert_eq!(Variant::from_bytes(&bytes), Err(DecodeError::Deep));
        let bytes = write(|builder| nested(MAX_NESTING * 9).build(builder));
        assert!(Variant::from_bytes(&bytes).is_err());
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused() {
        let bytes = write(|builder| {
            let value = fb::BoolValue::create(builder, &BoolValueArgs { value: true });
            fb::Variant::create(
                builder,
                &VariantArgs {
                    type_: VariantType::Int32,
                    value_type: VariantValue::BoolValue,
                    value: Some(value.as_union_value()),
                },
            )
        });
        assert_eq!(Variant::from_bytes(&bytes), Err(DecodeError::Type(2)));
    }
}

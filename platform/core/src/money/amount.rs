//! Amounts with a fixed number of decimals, which is part of what they are (J4.3).

use std::{cmp::Ordering, fmt, str::FromStr};

/// The most decimals that a fraction of 32 bits holds.
pub const MAX_PRECISION: u8 = 9;

/// `whole + fraction / 10^n`, exactly. Amounts of different precision are never equal and cannot be compared or added:
/// `1.0` is another thing than `1.00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecimalAmount {
    whole: i64,
    fraction: i32,
    n: u8,
}

/// What cannot be done with amounts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// They have different numbers of decimals.
    #[error("amounts of {left} and {right} decimals do not mix")]
    PrecisionMismatch {
        /// Decimals of the left one.
        left: u8,
        /// Decimals of the right one.
        right: u8,
    },
    /// The result does not fit.
    #[error("the amount does not fit into 64 bits")]
    Overflow,
    /// More decimals than [`MAX_PRECISION`].
    #[error("{0} decimals are more than {MAX_PRECISION}")]
    Precision(u8),
    /// The fraction has more digits than there are decimals, or another sign than the whole.
    #[error("{fraction} is no fraction of {n} decimals beside {whole}")]
    Fraction {
        /// What is before the point.
        whole: i64,
        /// What is after it.
        fraction: i32,
        /// Decimals.
        n: u8,
    },
    /// Text that is no decimal number.
    #[error("{0:?} is no amount")]
    Text(String),
}

impl DecimalAmount {
    /// An amount of `n` decimals. The fraction has the sign of the whole: `-1.05` is `(-1, -5, 2)`.
    ///
    /// # Errors
    /// [`AmountError::Precision`], [`AmountError::Fraction`].
    pub fn new(whole: i64, fraction: i32, n: u8) -> Result<Self, AmountError> {
        if n > MAX_PRECISION {
            return Err(AmountError::Precision(n));
        }
        let small = i64::from(fraction).abs() < power(n);
        let same_sign = whole == 0 || fraction == 0 || (whole < 0) == (fraction < 0);
        if !small || !same_sign {
            return Err(AmountError::Fraction { whole, fraction, n });
        }
        Ok(Self { whole, fraction, n })
    }

    /// Nothing, with `n` decimals.
    ///
    /// # Errors
    /// [`AmountError::Precision`].
    pub fn zero(n: u8) -> Result<Self, AmountError> {
        Self::new(0, 0, n)
    }

    /// What is before the point.
    pub fn whole(self) -> i64 {
        self.whole
    }

    /// What is after the point, in units of the last decimal, with the amount's sign.
    pub fn fraction(self) -> i32 {
        self.fraction
    }

    /// How many decimals there are.
    pub fn precision(self) -> u8 {
        self.n
    }

    /// The sum.
    ///
    /// # Errors
    /// [`AmountError::PrecisionMismatch`], [`AmountError::Overflow`].
    pub fn checked_add(self, other: Self) -> Result<Self, AmountError> {
        self.like(other)?;
        Self::of_units(self.units() + other.units(), self.n)
    }

    /// The difference.
    ///
    /// # Errors
    /// [`AmountError::PrecisionMismatch`], [`AmountError::Overflow`].
    pub fn checked_sub(self, other: Self) -> Result<Self, AmountError> {
        self.like(other)?;
        Self::of_units(self.units() - other.units(), self.n)
    }

    /// As many times as much.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn checked_mul(self, times: i64) -> Result<Self, AmountError> {
        let units = self.units().checked_mul(i128::from(times));
        Self::of_units(units.ok_or(AmountError::Overflow)?, self.n)
    }

    /// The same amount with the other sign.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] for the least whole number.
    pub fn checked_neg(self) -> Result<Self, AmountError> {
        Self::of_units(-self.units(), self.n)
    }

    /// Which one is more.
    ///
    /// # Errors
    /// [`AmountError::PrecisionMismatch`].
    pub fn checked_cmp(self, other: Self) -> Result<Ordering, AmountError> {
        self.like(other)?;
        Ok(self.units().cmp(&other.units()))
    }

    fn like(self, other: Self) -> Result<(), AmountError> {
        if self.n == other.n {
            return Ok(());
        }
        Err(AmountError::PrecisionMismatch {
            left: self.n,
            right: other.n,
        })
    }

    /// In units of the last decimal; 64 bits times ten to the ninth always fit.
    fn units(self) -> i128 {
        i128::from(self.whole) * i128::from(power(self.n)) + i128::from(self.fraction)
    }

    fn of_units(units: i128, n: u8) -> Result<Self, AmountError> {
        let unit = i128::from(power(n));
        let whole = i64::try_from(units / unit).map_err(|_| AmountError::Overflow)?;
        let fraction = i32::try_from(units % unit).map_err(|_| AmountError::Overflow)?;
        Ok(Self { whole, fraction, n })
    }
}

fn power(n: u8) -> i64 {
    10i64.pow(u32::from(n))
}

/// `None` across precisions, as nothing is equal there either; [`DecimalAmount::checked_cmp`] says why.
impl PartialOrd for DecimalAmount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.checked_cmp(*other).ok()
    }
}

impl fmt::Display for DecimalAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.whole < 0 || self.fraction < 0 {
            "-"
        } else {
            ""
        };
        let whole = self.whole.unsigned_abs();
        if self.n == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = usize::from(self.n);
        write!(f, "{sign}{whole}.{:0digits$}", self.fraction.unsigned_abs())
    }
}

/// As it is displayed; the number of decimals is that of the text.
impl FromStr for DecimalAmount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let wrong = || AmountError::Text(text.to_owned());
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        if !digits(whole) || (rest.contains('.') && !digits(fraction)) {
            return Err(wrong());
        }
        let n = u8::try_from(fraction.len()).map_err(|_| wrong())?;
        if n > MAX_PRECISION {
            return Err(AmountError::Precision(n));
        }
        let whole: i128 = whole.parse().map_err(|_| AmountError::Overflow)?;
        let fraction: i128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().map_err(|_| wrong())?
        };
        let units = whole
            .checked_mul(i128::from(power(n)))
            .and_then(|units| units.checked_add(fraction))
            .ok_or(AmountError::Overflow)?;
        Self::of_units(if negative { -units } else { units }, n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> DecimalAmount {
        text.parse().unwrap()
    }

    fn amounts(n: u8) -> impl Strategy<Value = DecimalAmount> {
        any::<i64>().prop_map(move |units| DecimalAmount::of_units(i128::from(units), n).unwrap())
    }

    /// J4.3.
    #[test]
    fn precision_is_part_of_identity() {
        let (one, two) = (amount("1.0"), amount("1.00"));
        assert_ne!(one, two);
        assert_eq!(one.partial_cmp(&two), None);
        let mismatch = AmountError::PrecisionMismatch { left: 1, right: 2 };
        assert_eq!(one.checked_cmp(two), Err(mismatch.clone()));
        assert_eq!(one.checked_add(two), Err(mismatch.clone()));
        assert_eq!(one.checked_sub(two), Err(mismatch));
    }

    #[test]
    fn overflow_is_an_error() {
        let most = DecimalAmount::new(i64::MAX, 99, 2).unwrap();
        assert_eq!(most.checked_add(amount("0.01")), Err(AmountError::Overflow));
        assert_eq!(most.checked_mul(i64::MAX), Err(AmountError::Overflow));
        let least = DecimalAmount::new(i64::MIN, 0, 9).unwrap();
        assert_eq!(least.checked_neg(), Err(AmountError::Overflow));
        assert_eq!(
            "9223372036854775808".parse::<DecimalAmount>(),
            Err(AmountError::Overflow)
        );
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        assert_eq!(DecimalAmount::new(0, 0, 10), Err(AmountError::Precision(10)));
        assert!(DecimalAmount::new(0, 100, 2).is_err());
        assert!(DecimalAmount::new(-1, 5, 2).is_err());
        assert!(DecimalAmount::new(0, 1, 0).is_err());
        assert_eq!(DecimalAmount::new(-1, -5, 2).unwrap().to_string(), "-1.05");
        assert_eq!(DecimalAmount::new(0, -5, 2).unwrap().to_string(), "-0.05");
        for text in ["", ".", "1.", ".5", "+1", "1,0", "1.-1", "--1", "1.0.0", "0x1"] {
            assert!(text.parse::<DecimalAmount>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn text_gives_the_same_amount_back(n in 0u8..=9, units: i64) {
            let amount = DecimalAmount::of_units(i128::from(units), n).unwrap();
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
            prop_assert_eq!(DecimalAmount::new(amount.whole(), amount.fraction(), n), Ok(amount));
        }

        #[test]
        fn sums_are_those_of_units(a: i64, b: i64, n in 0u8..=9) {
            let [x, y] = [a, b].map(|units| DecimalAmount::of_units(i128::from(units), n).unwrap());
            let sum = x.checked_add(y);
            prop_assert_eq!(&sum, &DecimalAmount::of_units(i128::from(a) + i128::from(b), n));
            if let Ok(sum) = sum {
                prop_assert_eq!(sum.checked_sub(y), Ok(x));
            }
            prop_assert_eq!(x.checked_cmp(y), Ok(a.cmp(&b)));
        }

        #[test]
        fn addition_commutes(a in amounts(4), b in amounts(4)) {
            prop_assert_eq!(a.checked_add(b), b.checked_add(a));
        }
    }
}

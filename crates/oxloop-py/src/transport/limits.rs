//! High and low water, from what programs give: integers of any size, floats, or nothing.
//!
//! asyncio compares whatever it gets; here the numbers become byte counts, and more bytes than there
//! are addresses simply means never.
//! Source of behaviour: CPython `Lib/asyncio/transports.py` (`_FlowControlMixin`).

use std::cmp::Ordering;
use std::fmt;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

/// A limit as it was given.
#[derive(Clone, Copy)]
enum Limit {
    Whole(i128),
    Real(f64),
}

impl Limit {
    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyInt>() {
            return Ok(Self::Whole(match value.extract::<i128>() {
                Ok(number) => number,
                Err(_) if value.lt(0)? => i128::MIN,
                Err(_) => i128::MAX,
            }));
        }
        if let Ok(float) = value.cast::<PyFloat>() {
            return Ok(Self::Real(float.value()));
        }
        value.extract().map(Self::Real)
    }

    fn times_four(self) -> Self {
        match self {
            Self::Whole(number) => Self::Whole(number.saturating_mul(4)),
            Self::Real(number) => Self::Real(number * 4.0),
        }
    }

    fn quarter(self) -> Self {
        match self {
            Self::Whole(number) => Self::Whole(number.div_euclid(4)),
            Self::Real(number) => Self::Real((number / 4.0).floor()),
        }
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (Self::Whole(a), Self::Real(b)) => (a as f64).partial_cmp(&b),
            (Self::Real(a), Self::Whole(b)) => a.partial_cmp(&(b as f64)),
            (Self::Real(a), Self::Real(b)) => a.partial_cmp(&b),
        }
    }

    fn at_least(self, other: Self) -> bool {
        self.compare(other).is_some_and(Ordering::is_ge)
    }

    /// Saturating at both ends.
    fn bytes(self) -> usize {
        match self {
            Self::Whole(number) => usize::try_from(number.max(0)).unwrap_or(usize::MAX),
            Self::Real(number) => number as usize,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) => write!(f, "{number:?}"),
        }
    }
}

/// `(high, low)` in bytes; what is not given follows from the other, or is asyncio's default.
///
/// # Errors
/// ValueError unless `high >= low >= 0`; TypeError for what is no number.
pub(super) fn water_marks(
    high: Option<&Bound<'_, PyAny>>,
    low: Option<&Bound<'_, PyAny>>,
) -> PyResult<(usize, usize)> {
    water_marks_or(high, low, oxloop_core::limits::WRITE_HIGH_WATER_BYTES)
}

/// `water_marks` with a high water of `default_high_bytes` if nothing is given.
///
/// # Errors
/// ValueError unless `high >= low >= 0`; TypeError for what is no number.
pub(super) fn water_marks_or(
    high: Option<&Bound<'_, PyAny>>,
    low: Option<&Bound<'_, PyAny>>,
    default_high_bytes: usize,
) -> PyResult<(usize, usize)> {
    let read = |value: Option<&Bound<'_, PyAny>>| match value {
        Some(value) if !value.is_none() => Limit::read(value).map(Some),
        _ => Ok(None),
    };
    let (given_high, given_low) = (read(high)?, read(low)?);
    let high = given_high.unwrap_or_else(|| match given_low {
        Some(low) => low.times_four(),
        None => Limit::Whole(default_high_bytes as i128),
    });
    let low = given_low.unwrap_or_else(|| high.quarter());
    if !(high.at_least(low) && low.at_least(Limit::Whole(0))) {
        return Err(PyValueError::new_err(format!(
            "high ({high}) must be >= low ({low}) must be >= 0"
        )));
    }
    Ok((high.bytes(), low.bytes()))
}

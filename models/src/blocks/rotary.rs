//! Rotary positions (RoFormer; Su et al. 2021, arXiv:2104.09864), halves rotated against each other.

use serde::Deserialize;
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

use super::{Pass, Positions};
use crate::error::{Error, Result};

/// The fields that say how to rotate, as files of either generation of the reference write them: `rope_theta` and
/// `rope_scaling`, or `rope_parameters` with both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RopeFields {
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
}

impl RopeFields {
    /// θ, the base of the wavelengths. Fails for any kind of rotation but the plain one.
    pub(crate) fn plain_theta(&self, file: &str) -> Result<f64> {
        for fields in [&self.rope_parameters, &self.rope_scaling].into_iter().flatten() {
            for name in ["rope_type", "type"] {
                match fields.get(name) {
                    None => {}
                    Some(Value::String(kind)) if kind == "default" => {}
                    Some(other) => return Err(unsupported(file, name, other)),
                }
            }
            match fields.get("partial_rotary_factor") {
                Some(factor) if factor.as_f64() != Some(1.0) => {
                    return Err(unsupported(file, "partial_rotary_factor", factor));
                }
                _ => {}
            }
        }
        let nested = self.rope_parameters.as_ref().and_then(|fields| fields.get("rope_theta")).and_then(Value::as_f64);
        match nested.or(self.rope_theta) {
            Some(theta) if theta > 0.0 => Ok(theta),
            Some(theta) => Err(Error::config(file, format!("rope_theta = {theta} is not above 0"))),
            None => Err(Error::config(file, "neither `rope_theta` nor `rope_parameters.rope_theta` is given")),
        }
    }
}

fn unsupported(file: &str, field: &str, value: &Value) -> Error {
    Error::Unsupported {
        file: file.to_owned(),
        what: format!("{field} = {value}"),
        supported: "rope_type = \"default\"".to_owned(),
    }
}

/// Tables of the rotations of every position a model has.
pub(crate) struct Rotary {
    /// `[positions, head]`.
    cos: Tensor,
    /// `[positions, head]`, the first half negated: what makes `roll` do the work of `rotate_half`.
    sin: Tensor,
    half: i64,
}

impl Rotary {
    /// Tables for heads of width `head`, computed in 32 bits and rounded to `kind`.
    pub(crate) fn new(theta: f64, head: i64, positions: i64, target: (Kind, tch::Device)) -> Result<Self> {
        let float = (Kind::Float, tch::Device::Cpu);
        let exponents = Tensor::f_arange_start_step(0, head, 2, float)?.f_div_scalar(head)?;
        let frequencies = Tensor::f_pow_scalar(theta, &exponents)?.f_reciprocal()?;
        let angles = Tensor::f_arange(positions, float)?.f_outer(&frequencies)?;
        let (cos, sin) = (angles.f_cos()?, angles.f_sin()?);
        let on_device = |table: &Tensor| table.f_to_kind(target.0).and_then(|table| table.f_to(target.1));
        Ok(Self {
            cos: on_device(&Tensor::f_cat(&[&cos, &cos], 1)?)?,
            sin: on_device(&Tensor::f_cat(&[&sin.f_neg()?, &sin], 1)?)?,
            half: head / 2,
        })
    }

    /// The tables for the columns of `pass`, each `[rows or 1, columns, 1, head]`.
    pub(crate) fn of(&self, pass: &Pass<'_>) -> Result<(Tensor, Tensor)> {
        let pick = |table: &Tensor| -> Result<Tensor> {
            let head = 2 * self.half;
            Ok(match &pass.positions {
                Positions::From(start) => {
                    table.f_narrow(0, *start, pass.columns)?.f_view([1, pass.columns, 1, head])?
                }
                Positions::Each(positions) => {
                    table.f_index_select(0, positions)?.f_view([pass.rows, pass.columns, 1, head])?
                }
            })
        };
        Ok((pick(&self.cos)?, pick(&self.sin)?))
    }

    /// Rotates x, `[rows, columns, heads, head]`.
    pub(crate) fn rotate(&self, x: &Tensor, rotation: &(Tensor, Tensor)) -> Result<Tensor> {
        let (cos, sin) = rotation;
        let turned = x.f_roll([self.half].as_slice(), [-1i64].as_slice())?;
        Ok(x.f_mul(cos)?.f_addcmul(&turned, sin)?)
    }
}

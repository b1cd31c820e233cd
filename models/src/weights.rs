//! Safetensors files, memory-mapped: a tensor of the wanted type is a view of the file, never a second copy on the CPU.
//!
//! Format: <https://huggingface.co/docs/safetensors>. A model is one `NAME.safetensors`, or shards listed in
//! `NAME.safetensors.index.json`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::files::{FileRef, ModelFiles};
use crate::shim;

/// The tensors of a model's safetensors files, by name.
pub struct Weights {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    map: Arc<Mmap>,
    /// The first byte within the map.
    start: usize,
    shape: Vec<i64>,
    kind: Kind,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens `stem.safetensors`, or the shards `stem.safetensors.index.json` lists. Every header is checked against
    /// its file's size and against the index; no tensor is read.
    pub fn open(files: &ModelFiles, stem: &str) -> Result<Self> {
        let index_name = format!("{stem}.safetensors.index.json");
        let single = format!("{stem}.safetensors");
        match files.json::<ShardIndex>(&index_name)? {
            Some(index) if files.get(&single).is_none() => Self::open_shards(files, &index_name, &index),
            _ => Self::open_file(files.require(&single)?, &single),
        }
    }

    fn open_file(file: &FileRef, name: &str) -> Result<Self> {
        let map = Arc::new(map_file(file)?);
        let (header_len, metadata) = SafeTensors::read_metadata(&map).map_err(|error| Error::damaged(name, error))?;
        let data_start = 8 + header_len;
        let mut entries = BTreeMap::new();
        for (tensor, info) in metadata.tensors() {
            let Some(kind) = kind_of(info.dtype) else {
                let what = format!("type {:?} of tensor `{tensor}`", info.dtype);
                let supported = "F32, F16, BF16, F64, I64, I32, U8, BOOL".to_owned();
                return Err(Error::Unsupported { file: name.to_owned(), what, supported });
            };
            let shape = info.shape.iter().map(|&d| d as i64).collect();
            let start = data_start + info.data_offsets.0;
            entries.insert(tensor, Entry { map: Arc::clone(&map), start, shape, kind });
        }
        Ok(Self { entries })
    }

    fn open_shards(files: &ModelFiles, index_name: &str, index: &ShardIndex) -> Result<Self> {
        let mut shards: Vec<&String> = index.weight_map.values().collect();
        shards.sort();
        shards.dedup();
        let mut entries = BTreeMap::new();
        for shard in shards {
            for (tensor, entry) in Self::open_file(files.require(shard)?, shard)?.entries {
                if index.weight_map.get(&tensor) != Some(shard) {
                    let reason = format!("it does not place tensor `{tensor}` in `{shard}`, which holds it");
                    return Err(Error::damaged(index_name, reason));
                }
                entries.insert(tensor, entry);
            }
        }
        match index.weight_map.iter().find(|(tensor, _)| !entries.contains_key(*tensor)) {
            Some((tensor, shard)) => Err(Error::damaged(index_name, format!("tensor `{tensor}` is not in `{shard}`"))),
            None => Ok(Self { entries }),
        }
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Whether two tensors hold the same bytes of the same type and shape.
    pub(crate) fn same_bytes(&self, one: &str, other: &str) -> bool {
        match (self.entries.get(one), self.entries.get(other)) {
            (Some(a), Some(b)) => a.kind == b.kind && a.shape == b.shape && a.bytes() == b.bytes(),
            _ => false,
        }
    }

    /// The tensor of this name as `kind` on `device`: a view of the file where nothing needs to change, else a copy.
    pub(crate) fn tensor(&self, name: &str, kind: Kind, device: tch::Device) -> Result<Tensor> {
        let entry = self.entries.get(name).ok_or_else(|| Error::input(format!("there is no tensor `{name}`")))?;
        let held = entry.held()?;
        if device == tch::Device::Cpu && kind == entry.kind {
            return Ok(held);
        }
        Ok(held.f_to_device_(device, kind, false, false)?)
    }
}

impl Entry {
    fn bytes(&self) -> &[u8] {
        let count: i64 = self.shape.iter().product();
        &self.map[self.start..self.start + count as usize * self.kind.elt_size_in_bytes()]
    }

    /// A CPU tensor over the mapped bytes, or of a copy where the file does not align them or has another type.
    fn held(&self) -> Result<Tensor> {
        let bytes = self.bytes();
        let aligned = bytes.as_ptr().align_offset(self.kind.elt_size_in_bytes()) == 0;
        if aligned && matches!(self.kind, Kind::Float | Kind::Half | Kind::BFloat16) {
            return shim::borrowed(&self.map, self.start, &self.shape, self.kind);
        }
        Ok(Tensor::f_from_data_size(bytes, &self.shape, self.kind)?)
    }
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F64 => Kind::Double,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

#[allow(unsafe_code)]
fn map_file(file: &FileRef) -> Result<Mmap> {
    let opened = File::open(&file.path).map_err(Error::io(&file.path))?;
    file.check_within(opened.metadata().map_err(Error::io(&file.path))?.len())?;
    let len = usize::try_from(file.len).map_err(|_| Error::input("a file is too large to map"))?;
    // Safety: model files are immutable while a model is open, as everything in a store is; the caller's contract.
    let map = unsafe { MmapOptions::new().offset(file.offset).len(len).map(&opened) };
    map.map_err(Error::io(&file.path))
}

/// The bytes of a safetensors file of 32-bit tensors. The same tensors give the same bytes.
pub(crate) fn serialize(tensors: &[(String, &Tensor)]) -> Result<Vec<u8>> {
    let parts = tensors
        .iter()
        .map(|(name, tensor)| Ok((name, tensor.size(), float_bytes(tensor)?)))
        .collect::<Result<Vec<_>>>()?;
    let broken = |error| Error::input(format!("tensors cannot be written: {error}"));
    let views = parts
        .iter()
        .map(|(name, shape, bytes)| {
            let shape = shape.iter().map(|&d| d as usize).collect();
            TensorView::new(Dtype::F32, shape, bytes).map(|view| (*name, view)).map_err(broken)
        })
        .collect::<Result<Vec<_>>>()?;
    // The reference's loaders ask for this one entry; with one entry, the order of the map cannot vary.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(format)).map_err(broken)
}

fn float_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut values = vec![0f32; tensor.numel()];
    tensor.f_detach()?.f_to_kind(Kind::Float)?.f_copy_data(&mut values, tensor.numel())?;
    Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of one tensor `x` of 32-bit floats, at `offset` of a pack.
    fn weights(dir: &std::path::Path, offset: u64) -> Weights {
        let x = Tensor::f_from_slice(&[1f32, 2.0, 3.0]).unwrap();
        let bytes = serialize(&[("x".to_owned(), &x)]).unwrap();
        let path = dir.join(offset.to_string());
        std::fs::write(&path, [vec![0; offset as usize], bytes.clone()].concat()).unwrap();
        let file = FileRef { path, offset, len: bytes.len() as u64 };
        Weights::open(&ModelFiles::from_iter([("m.safetensors".to_owned(), file)]), "m").unwrap()
    }

    fn address(weights: &Weights, kind: Kind) -> (usize, Vec<f32>) {
        let tensor = weights.tensor("x", kind, tch::Device::Cpu).unwrap();
        (tensor.data_ptr() as usize, Vec::try_from(&tensor).unwrap())
    }

    #[test]
    fn a_tensor_is_a_view_of_the_file_unless_something_must_change() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, odd) = (weights(dir.path(), 0), weights(dir.path(), 4097));
        let within = |weights: &Weights, address: usize| {
            let map = &weights.entries["x"].map;
            map.as_ptr_range().contains(&(address as *const u8))
        };
        let (at, values) = address(&whole, Kind::Float);
        assert!(within(&whole, at) && values == [1.0, 2.0, 3.0]);
        let (at, values) = address(&whole, Kind::BFloat16);
        assert!(!within(&whole, at) && values == [1.0, 2.0, 3.0]);
        let (at, values) = address(&odd, Kind::Float);
        assert!(!within(&odd, at) && values == [1.0, 2.0, 3.0]);
    }

    #[test]
    fn the_map_lives_as_long_as_its_last_view() {
        let dir = tempfile::tempdir().unwrap();
        let weights = weights(dir.path(), 0);
        let map = Arc::downgrade(&weights.entries["x"].map);
        let tensor = weights.tensor("x", Kind::Float, tch::Device::Cpu).unwrap();
        let part = tensor.f_narrow(0, 1, 2).unwrap();
        drop((weights, tensor));
        assert!(map.upgrade().is_some());
        assert_eq!(Vec::<f32>::try_from(&part).unwrap(), [2.0, 3.0]);
        drop(part);
        assert!(map.upgrade().is_none());
    }
}

//! Rows of a dataset made of files: the images of a folder with their metadata, or the records of a file.
//!
//! A record or image that cannot be read is a bad row, named by `file:line` or path; it never ends the download.

use std::collections::{BTreeMap, HashMap, HashSet};

use pipe_engine::cell::{Cell, Row, Schema};
use pipe_engine::problem::{Failure, nearest};
use pipe_engine::source::{BadRow, SourceContext};
use serde_json::Value;

use super::layout::{Layout, folder};
use super::local::LocalFile;
use super::schema::{self, FILE_NAME, IMAGE};
use super::{OUTPUT, Params};
use crate::image_file::has_image_extension;
use crate::left_out::LeftOut;
use crate::record_rows::{Found, Images, Origin, RowMaker, bad_record, bad_row, id_of, unique, unreadable};
use crate::records::{Record, RecordFormat};

/// All that a dataset is made from.
pub struct Making {
    /// What the files are.
    pub layout: Layout,
    /// The files.
    pub files: Vec<LocalFile>,
    /// Images that cannot be read, with why.
    pub unreadable: BTreeMap<String, String>,
    /// How to read them.
    pub params: Params,
    /// The columns to give.
    pub schema: Schema,
    /// Columns that records have besides.
    pub left_out: LeftOut,
}

/// Reads the files and hands the dataset over.
pub fn give(context: &SourceContext<'_>, making: &Making) -> Result<(), Failure> {
    for (name, _) in making.layout.tables() {
        making.file(name).map_or(Ok(()), LocalFile::verify)?;
    }
    let sink = context.sink;
    let total = making.files.len() as u64;
    let found = (0..).zip(making.found()?).take_while(|_| !sink.cancelled()).map(|(done, found)| {
        if done % 1000 == 0 {
            sink.progress(done, total.max(done), "");
        }
        found
    });
    let mut rows = unique(found);
    context.outputs.dataset(OUTPUT, &making.schema, &mut rows)?;
    making.left_out.tell("columns", sink);
    if sink.cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
}

/// What the files of metadata say.
#[derive(Default)]
struct Metadata {
    /// The records about images, by the name of the image, each with the index of its maker.
    about: HashMap<String, (usize, Record)>,
    /// Records that are about none.
    bad: Vec<BadRow>,
}

impl Making {
    fn file(&self, name: &str) -> Option<&LocalFile> {
        self.files.iter().find(|file| file.name == name)
    }

    fn found(&self) -> Result<Box<dyn Iterator<Item = Found> + '_>, Failure> {
        match &self.layout {
            Layout::Records { file, format } => {
                let id = match &self.params.id {
                    Some(id) => Some(id.as_str()),
                    None => schema::has_id(file, *format, &self.files)?.then_some("id"),
                };
                let records = schema::open(file, *format, &self.files)?;
                Ok(Box::new(self.maker(file, *format, id).rows(records)))
            }
            Layout::Images { .. } => self.image_rows(),
            Layout::Model | Layout::Adapter | Layout::Files => Err(Failure::internal("files are no dataset")),
        }
    }

    /// What makes rows of a file of records; images lie beside it.
    fn maker<'a>(&'a self, file: &'a str, format: RecordFormat, id: Option<&'a str>) -> RowMaker<'a> {
        let files: HashMap<&str, &LocalFile> =
            self.files.iter().filter_map(|image| Some((image.name.strip_prefix(folder(file))?, image))).collect();
        let images: Images<'a> = Box::new(move |path| {
            let path = path.trim_start_matches("./");
            let why = || self.unreadable.get(&format!("{}{path}", folder(file)));
            files.get(path).map(|file| file.image()).or_else(|| why().map(|why| Err(Failure::input(why.as_str()))))
        });
        RowMaker { file, format, id, schema: &self.schema, images, left_out: self.counted() }
    }

    /// Where columns are counted that are left out: nowhere, where the pipeline says which it wants.
    fn counted(&self) -> Option<&LeftOut> {
        Some(&self.left_out).filter(|_| self.params.columns.is_empty())
    }

    fn image_rows(&self) -> Result<Box<dyn Iterator<Item = Found> + '_>, Failure> {
        let tables = self.layout.tables();
        let makers: Vec<RowMaker<'_>> =
            tables.into_iter().map(|(file, format)| self.maker(file, format, None)).collect();
        let Metadata { about, bad } = self.metadata(&makers)?;
        let images = self.files.iter().filter(|file| has_image_extension(&file.name));
        let rows = images.map(move |file| {
            let known = about.get(&file.name).map(|(maker, record)| (&makers[*maker], record));
            self.image_row(file, known)
        });
        let unreadable =
            self.unreadable.iter().map(|(name, why)| bad_row(name.clone(), "image: unreadable", why.clone()));
        Ok(Box::new(bad.into_iter().chain(unreadable).map(Err).chain(rows)))
    }

    fn image_row(&self, file: &LocalFile, about: Option<(&RowMaker<'_>, &Record)>) -> Found {
        let mut image = Some(file.image().map_err(|failure| unreadable(file.name.clone(), &failure))?);
        let id = match (&self.params.id, about) {
            (None, _) => Ok(file.name.clone()),
            (Some(column), Some((_, record))) => id_of(record, column),
            (Some(column), None) => Err(format!("no metadata, and so no `{column}`")),
        };
        let id = id.map_err(|message| bad_row(file.name.clone(), "id: missing", message))?;
        let mut cells = Vec::with_capacity(self.schema.0.len());
        for (column, column_type) in &self.schema.0 {
            cells.push(match (image.take_if(|_| column == IMAGE), about) {
                (Some(image), _) => image,
                (None, None) => Cell::Null,
                (None, Some((maker, record))) => maker.cell(
                    record,
                    column,
                    *column_type,
                    &Origin { file: maker.file.into(), line: Some(record.line) },
                )?,
            });
        }
        Ok((Row { id, cells }, Origin { file: file.name.as_str().into(), line: None }))
    }

    fn metadata(&self, makers: &[RowMaker<'_>]) -> Result<Metadata, Failure> {
        let mut all = Metadata::default();
        let readable = self.files.iter().map(|file| file.name.as_str());
        let names: HashSet<&str> = readable.chain(self.unreadable.keys().map(String::as_str)).collect();
        for (index, RowMaker { file, format, .. }) in makers.iter().enumerate() {
            for record in schema::open(file, *format, &self.files)? {
                let found = record.map_err(|bad| bad_record(file, bad)).and_then(|record| {
                    let at = format!("{file}:{}", record.line);
                    let image =
                        image_of(file, &record, &names).map_err(|(class, why)| bad_row(at.clone(), class, why))?;
                    if all.about.contains_key(&image) {
                        return Err(bad_row(at, "metadata: duplicate", format!("an earlier record is about {image}")));
                    }
                    if let Some(left_out) = self.counted() {
                        left_out.note(
                            &record,
                            file,
                            &self.schema,
                            &["id", FILE_NAME, self.params.id.as_deref().unwrap_or("id")],
                        );
                    }
                    all.about.insert(image, (index, record));
                    Ok(())
                });
                all.bad.extend(found.err());
            }
        }
        Ok(all)
    }
}

/// The image that a record of the file `table` is about; else the class and the reason.
fn image_of(table: &str, record: &Record, names: &HashSet<&str>) -> Result<String, (&'static str, String)> {
    let Some(name) = record.values.get(FILE_NAME).and_then(Value::as_str) else {
        return Err(("metadata: no file name", format!("it has no text `{FILE_NAME}`")));
    };
    let image = format!("{}{}", folder(table), name.trim_start_matches("./"));
    if names.contains(image.as_str()) {
        return Ok(image);
    }
    let near = nearest(&image, names.iter().copied());
    let hint = near.map_or_else(String::new, |near| format!("; there is {near}"));
    Err(("image: missing", format!("there is no image {image}{hint}")))
}

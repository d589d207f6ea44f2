use super::*;
use crate::event::Field;

fn event(text: &str) -> Event {
    Event::parse(text.into(), 1_000_000, &Names::default()).unwrap()
}

#[test]
fn reads_the_specifications_example() {
    let event = event(
        r#"{"type":"identify","userId":"97980cfea0067","traits":{"firstname":"Elon","lastname":"Musk","email":"a@b.co","Place of birth":"South Africa","address":{"street":"6th St","city":"Durban"}}}"#,
    );
    assert_eq!(event.user_id(), Some("97980cfea0067"));
    assert_eq!(event.reserved(Reserved::FirstName), Field::Text("Elon"));
    assert_eq!(event.reserved(Reserved::Name), Field::Text("Elon Musk"));
    assert!(event.name_is_derived());
    assert_eq!(event.reserved(Reserved::AddressCity), Field::Text("Durban"));
    let customs: Vec<_> =
        event.customs().map(|(key, value)| (key.to_owned(), value.raw().to_owned())).collect();
    assert_eq!(customs, [("Place of birth".to_owned(), "\"South Africa\"".to_owned())]);
}

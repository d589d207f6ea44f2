//! The specifications' own example calls, completed where their pages left something out.

/// "The Identify Spec", its complete example: it switches everything off but Mixpanel and Salesforce.
pub const IDENTIFY: &str = include_str!("identify.json");

/// Plainflow's "Identify", its complete example: in snake_case, for every destination.
pub const IDENTIFY_SNAKE_CASE: &str = r#"{
  "anonymousId": "59f75a945b289f44d6e8aca5",
  "context": {
    "ip": "",
    "userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11) AppleWebKit/601.1.32 (KHTML, like Gecko) Version/8.1 Safari/601.1.32"
  },
  "message_id": "aaf06138-2ceb-4881-9c73-79a1c782f370",
  "received_at": "2017-02-09T12:08:32.387Z",
  "sent_at": "2017-02-09T12:08:32.111Z",
  "timestamp": "2017-02-09T12:08:32.111Z",
  "traits": {
    "name": "Mark Twain",
    "email": "mark@example.com",
    "plan": "premium",
    "logins": 5,
    "address": {
      "street": "351 Farmington Avenue",
      "city": "Hartford",
      "state": "CT",
      "postal_code": "06105",
      "country": "USA"
    }
  },
  "type": "identify",
  "user_id": "97980cfea0067",
  "version": "1.2"
}"#;

/// "The Identify Spec", its typical call.
pub const IDENTIFY_TYPICAL: &str = r#"{
  "type": "identify",
  "userId": "abc123",
  "traits": {
    "firstname": "Elon",
    "lastname": "Musk",
    "email": "elon@example.com",
    "Country of birth": "South Africa"
  }
}"#;

/// "The Identify Spec", its anonymous user.
pub const IDENTIFY_ANONYMOUS: &str = r#"{
  "type": "identify",
  "anonymousId": "507f191e810c19729de860ea",
  "traits": { "subscriptionStatus": "inactive" }
}"#;

/// All of them, each with what it shows.
pub const ALL: &[(&str, &str)] = &[
    ("the first specification's complete example; its integrations name two vendors only", IDENTIFY),
    ("the first specification's typical call", IDENTIFY_TYPICAL),
    ("the first specification's anonymous user", IDENTIFY_ANONYMOUS),
    ("the second specification's complete example, in snake_case", IDENTIFY_SNAKE_CASE),
];

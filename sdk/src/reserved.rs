//! The reserved traits: the closed list of user properties with a standard meaning, under their canonical names.
//! It is the merger of the two specifications' tables. It does not parse values; `normalise` does.

/// Declares the reserved traits in one place: variant, canonical name.
macro_rules! reserved {
    ($($variant:ident $name:literal,)*) => {
        /// A reserved trait; one member of an object each, so that every one has a slot of its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reserved {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Reserved {
            /// Every reserved trait, in the order of its slots.
            pub const ALL: &'static [Reserved] = &[$(Reserved::$variant,)*];

            /// The canonical name, dotted where it is a member of an object.
            pub fn name(self) -> &'static str {
                match self {
                    $(Reserved::$variant => $name,)*
                }
            }
        }
    };
}

reserved! {
    AddressStreet "address.street",
    AddressCity "address.city",
    AddressState "address.state",
    AddressRegion "address.region",
    AddressPostalCode "address.postal_code",
    AddressCountry "address.country",
    Age "age",
    Avatar "avatar",
    Birthday "birthday",
    CompanyId "company.id",
    CompanyName "company.name",
    CompanyIndustry "company.industry",
    CompanyEmployeeCount "company.employee_count",
    CompanyPlan "company.plan",
    CompanyCreatedAt "company.created_at",
    CreatedAt "created_at",
    Description "description",
    Email "email",
    FirstName "first_name",
    Gender "gender",
    Id "id",
    LastName "last_name",
    Name "name",
    Phone "phone",
    SubscriptionPlanName "subscription.plan_name",
    SubscriptionPlanId "subscription.plan_id",
    SubscriptionStatus "subscription.status",
    SubscriptionPaymentStatus "subscription.payment_status",
    SubscriptionPlanIntervalCount "subscription.plan_interval_count",
    SubscriptionPlanIntervalUnit "subscription.plan_interval_unit",
    SubscriptionServiceTrialPeriodStartAt "subscription.service_trial_period_start_at",
    SubscriptionServiceTrialPeriodEndAt "subscription.service_trial_period_end_at",
    SubscriptionServicePeriodStartAt "subscription.service_period_start_at",
    SubscriptionServicePeriodEndAt "subscription.service_period_end_at",
    SubscriptionServicePeriodCancelledAt "subscription.service_period_cancelled_at",
    SubscriptionDueDate "subscription.due_date",
    SubscriptionAmountInCents "subscription.amount_in_cents",
    SubscriptionCurrency "subscription.currency",
    SubscriptionDiscountCode "subscription.discount_code",
    SubscriptionDiscountAmountInCents "subscription.discount_amount_in_cents",
    SubscriptionTaxAmountInCents "subscription.tax_amount_in_cents",
    Title "title",
    Username "username",
    Website "website",
}

/// A reserved trait that is an object of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// `address`
    Address,
    /// `company`
    Company,
    /// `subscription`
    Subscription,
}

impl Group {
    /// Every group.
    pub const ALL: &'static [Group] = &[Group::Address, Group::Company, Group::Subscription];

    /// The canonical name.
    pub fn name(self) -> &'static str {
        match self {
            Group::Address => "address",
            Group::Company => "company",
            Group::Subscription => "subscription",
        }
    }
}

impl Reserved {
    /// The object it is a member of, if any, and its name there.
    pub fn place(self) -> (Option<Group>, &'static str) {
        match self.name().split_once('.') {
            Some(("address", member)) => (Some(Group::Address), member),
            Some(("company", member)) => (Some(Group::Company), member),
            Some(("subscription", member)) => (Some(Group::Subscription), member),
            _ => (None, self.name()),
        }
    }

    /// The reserved trait of that exact canonical name.
    pub fn named(name: &str) -> Option<Reserved> {
        Reserved::ALL.iter().copied().find(|reserved| reserved.name() == name)
    }
}

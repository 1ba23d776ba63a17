package tenant

import "strconv"

// The text properties of a user, as indexes into user.text. Everything about a
// property is in texts; the order here only has to match it.
const (
	pUPN = iota
	pDisplayName
	pMailNickname
	pMail
	pGivenName
	pSurname
	pEmployeeID
	pEmployeeType
	pJobTitle
	pDepartment
	pCompanyName
	pUsageLocation
	pOfficeLocation
	pCity
	pCountry
	pState
	pStreetAddress
	pPostalCode
	pPreferredLanguage
	pMobilePhone
	pFaxNumber
	pUserType
	pImmutableID
	pPasswordPolicies
	pHireDate
	pLeaveDate
	pCostCenter
	pDivision
	pExt1
	pExt15 = pExt1 + 14
	nText  = pExt15 + 1
	pPlain = pCostCenter // text properties below this one stand by their own name in a user's JSON
)

// How far $filter reaches a property.
const (
	noFilter   = iota
	advanced   // only with ConsistencyLevel: eventual and $count=true
	filterable // eq, in, startsWith by default; ne, not, endsWith as advanced
)

type textProp struct {
	name    string
	max     int  // characters; 0 means 1024
	fixed   bool // null is refused
	filter  int
	indexed bool // has a map from value to users
	instant bool // an RFC 3339 time
	whole   bool // $filter compares it whole: neither startsWith nor endsWith (documented)
}

// texts is Graph's user resource as far as it is text. Limits as documented in
// the user resource; employeeId is the one that hurts.
var texts = [nText]textProp{
	pUPN:               {name: "userPrincipalName", max: 113, fixed: true, filter: filterable, indexed: true},
	pDisplayName:       {name: "displayName", max: 256, fixed: true, filter: filterable},
	pMailNickname:      {name: "mailNickname", max: 64, fixed: true, filter: filterable, indexed: true},
	pMail:              {name: "mail", max: 256, fixed: true, filter: filterable, indexed: true},
	pGivenName:         {name: "givenName", max: 64, filter: filterable},
	pSurname:           {name: "surname", max: 64, filter: filterable},
	pEmployeeID:        {name: "employeeId", max: 16, filter: filterable, indexed: true},
	pEmployeeType:      {name: "employeeType", filter: advanced},
	pJobTitle:          {name: "jobTitle", max: 128, filter: filterable},
	pDepartment:        {name: "department", max: 64, filter: filterable},
	pCompanyName:       {name: "companyName", max: 64, filter: advanced},
	pUsageLocation:     {name: "usageLocation", max: 2, fixed: true, filter: filterable},
	pOfficeLocation:    {name: "officeLocation", max: 128, filter: advanced},
	pCity:              {name: "city", max: 128, filter: filterable},
	pCountry:           {name: "country", max: 128, filter: filterable},
	pState:             {name: "state", max: 128, filter: filterable},
	pStreetAddress:     {name: "streetAddress", filter: advanced},
	pPostalCode:        {name: "postalCode", max: 40, filter: advanced},
	pPreferredLanguage: {name: "preferredLanguage", filter: advanced},
	pMobilePhone:       {name: "mobilePhone", max: 64, filter: advanced},
	pFaxNumber:         {name: "faxNumber", filter: advanced},
	pUserType:          {name: "userType", filter: filterable},
	pImmutableID:       {name: "onPremisesImmutableId", filter: filterable, indexed: true},
	pPasswordPolicies:  {name: "passwordPolicies", filter: noFilter},
	pHireDate:          {name: "employeeHireDate", filter: advanced, instant: true},
	pLeaveDate:         {name: "employeeLeaveDateTime", filter: noFilter, instant: true},
	pCostCenter:        {name: "employeeOrgData/costCenter", filter: advanced, whole: true},
	pDivision:          {name: "employeeOrgData/division", filter: advanced, whole: true},
}

// textByName finds a text property by the name that $filter uses for it.
var textByName = map[string]int{}

func init() {
	for i := range 15 {
		texts[pExt1+i] = textProp{name: "onPremisesExtensionAttributes/extensionAttribute" + strconv.Itoa(i+1), filter: advanced, indexed: true, whole: true}
	}
	for i := range texts {
		textByName[texts[i].name] = i
	}
}

// readOnly are the properties of a user that no caller may set.
var readOnly = set("id", "createdDateTime", "deletedDateTime", "creationType", "externalUserState", "externalUserStateChangeDateTime",
	"signInSessionsValidFromDateTime", "refreshTokensValidFromDateTime", "proxyAddresses", "imAddresses", "assignedLicenses", "assignedPlans",
	"provisionedPlans", "licenseAssignmentStates", "lastPasswordChangeDateTime", "securityIdentifier", "isManagementRestricted",
	"onPremisesSyncEnabled", "onPremisesDistinguishedName", "onPremisesDomainName", "onPremisesLastSyncDateTime",
	"onPremisesSamAccountName", "onPremisesSecurityIdentifier", "onPremisesUserPrincipalName", "onPremisesProvisioningErrors")

// notAppOnly are those that an application cannot set, only a signed-in user.
var notAppOnly = set("aboutMe", "birthday", "hireDate", "interests", "mySite", "pastProjects", "preferredName", "responsibilities", "schools", "skills")

// sensitive are those that take a directory role when the target is privileged.
var sensitive = set("accountEnabled", "businessPhones", "mobilePhone", "onPremisesImmutableId", "otherMails", "passwordProfile", "userPrincipalName")

// defaultSelect is what Graph returns of a user when nothing was selected.
var defaultSelect = []string{"businessPhones", "displayName", "givenName", "jobTitle", "mail", "mobilePhone", "officeLocation",
	"preferredLanguage", "surname", "userPrincipalName", "id"}

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

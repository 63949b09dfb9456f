package verify

// Fault says what kind of fault of one row keeps it from being judged.
type Fault string

const (
	FaultUnreadable Fault = "unreadable" // the row does not hold what the verifier is to be asked
	FaultVerifier   Fault = "verifier"   // the verifier failed on this row, as often as it was tried
)

// RowError says that one row cannot be judged, and others may be.
type RowError struct {
	Fault   Fault
	Message string
}

func (e *RowError) Error() string { return e.Message }

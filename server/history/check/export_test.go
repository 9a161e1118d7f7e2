package check

// CheckOrder is the search for an order without the named rules.
var CheckOrder = checkOrder

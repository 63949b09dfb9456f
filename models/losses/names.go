package losses

// Every loss by its name in recipes, with its defaults.
func init() {
	Register("sft", DefaultSFT())
	Register("reinforce", DefaultReinforce())
	Register("ppo", DefaultPPO())
	Register("reference_kl", DefaultReferenceKL())
	Register("gspo", DefaultGSPO())
	Register("cispo", DefaultCISPO())
	Register("entropy", DefaultEntropy())
	Register("opd", DefaultOPD())
	Register("distrl", DefaultDistRL())
	Register("lco_kld", DefaultLCOKLD())
	Register("lco_mse", DefaultLCOMSE())
	Register("lco_lch", DefaultLCOLCH())
	Register("dpo", DefaultDPO())
	Register("dckd", DefaultDCKD())
	Register("adpa", DefaultADPA())
	Register("value", DefaultValue())
	Register("outcome_value", DefaultOutcomeValue())
	Register("ipvrm", DefaultIPVRM())
	Register("ipvrm_online", DefaultIPVRMOnline())
	Register("implicit_prm", DefaultImplicitPRM())
	Register("dpo_rm", DefaultDPORM())
	Register("qrm", DefaultQRM())
	Register("qrm_lm", DefaultQRMLM())
}
